//! Waiting for several things at once, for threads without async: handles, a deadline, a call from another thread, and
//! steps of the wall clock. Never wakes up for anything else.
#![expect(unsafe_code, reason = "epoll, eventfd and timerfd have no safe form in the standard library")]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;

use keepwell_core::Mono;

use super::ipc::{BorrowedHandle, again, check, check_len};

/// Wakes a waiter from another thread.
#[derive(Clone, Debug)]
pub struct Waker(pub(crate) Arc<OwnedFd>);

impl Waker {
    /// Makes the waiter return; many calls before it does are one.
    pub fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: writes eight bytes, as eventfd(2) wants. The only failure is a counter that is full, and then the
        // waiter is awake already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

/// What to wait for on a handle. Level-triggered: it is told again as long as it is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Something to read, or the end.
    Read,
    /// Also room to write.
    ReadWrite,
}

/// What ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// A handle.
    Ready {
        /// As given to [`Waiter::add`].
        token: u64,
        /// There is something to read, or the end.
        readable: bool,
        /// There is room to write, or writing fails at once.
        writable: bool,
        /// Nobody is at the other end any more; what is left can still be read.
        closed: bool,
    },
    /// A [`Waker`].
    Called,
    /// The deadline has passed.
    Deadline,
    /// The wall clock was set; only after [`Waiter::watch_clock`].
    ClockStepped,
}

/// Tokens that a [`Waiter`] keeps for itself.
const CALLED: u64 = u64::MAX;
const DEADLINE: u64 = u64::MAX - 1;
const CLOCK: u64 = u64::MAX - 2;
/// Told at once. What is left over comes with the next wait, and the kernel takes turns among what is ready.
const BATCH: usize = 128;

/// A set of things to wait for.
#[derive(Debug)]
pub struct Waiter {
    epoll: OwnedFd,
    called: Arc<OwnedFd>,
    timer: OwnedFd,
    armed: Option<Mono>,
    clock: Option<OwnedFd>,
}

impl Waiter {
    /// An empty one.
    ///
    /// # Errors
    /// When the host is out of descriptors or memory.
    pub fn new() -> io::Result<Waiter> {
        // SAFETY: no pointers; a descriptor that is returned is new and ours.
        let epoll = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))? };
        // SAFETY: as above.
        let called = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))? };
        let timer = new_timer(libc::CLOCK_BOOTTIME)?;
        let waiter = Waiter { epoll, called: Arc::new(called), timer, armed: None, clock: None };
        waiter.control(libc::EPOLL_CTL_ADD, waiter.called.as_fd(), CALLED, libc::EPOLLIN)?;
        waiter.control(libc::EPOLL_CTL_ADD, waiter.timer.as_fd(), DEADLINE, libc::EPOLLIN)?;
        Ok(waiter)
    }

    /// For other threads.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.called))
    }

    /// From now on also tells of steps of the wall clock.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn watch_clock(&mut self) -> io::Result<()> {
        let clock = new_timer(libc::CLOCK_REALTIME)?;
        arm_cancel(&clock)?;
        self.control(libc::EPOLL_CTL_ADD, clock.as_fd(), CLOCK, libc::EPOLLIN)?;
        self.clock = Some(clock);
        Ok(())
    }

    /// Waits for `handle` too. The caller removes it before closing it, unless no other handle shares what it opened.
    ///
    /// # Errors
    /// When it is there already, is a regular file, or the token is one of the last three numbers.
    pub fn add(&self, handle: BorrowedHandle<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, handle, checked(token)?, interest.events())
    }

    /// Changes what is waited for.
    ///
    /// # Errors
    /// When it is not there.
    pub fn modify(&self, handle: BorrowedHandle<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, handle, checked(token)?, interest.events())
    }

    /// Waits for it no longer.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, handle: BorrowedHandle<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, handle, 0, 0)
    }

    /// Waits until something happens and puts what it was into `wakes`, after clearing it. Without a deadline it may
    /// wait for ever.
    ///
    /// # Errors
    /// When the system refuses; nothing is lost.
    pub fn wait(&mut self, deadline: Option<Mono>, wakes: &mut Vec<Wake>) -> io::Result<()> {
        self.arm(deadline)?;
        self.collect(-1, wakes)
    }

    /// The same without waiting: what is ready now.
    ///
    /// # Errors
    /// When the system refuses; nothing is lost.
    pub fn poll(&mut self, wakes: &mut Vec<Wake>) -> io::Result<()> {
        self.collect(0, wakes)
    }

    fn collect(&mut self, timeout: libc::c_int, wakes: &mut Vec<Wake>) -> io::Result<()> {
        wakes.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let n = again(|| {
            let (epoll, room) = (self.epoll.as_raw_fd(), BATCH as libc::c_int);
            // SAFETY: `events` has room for BATCH events.
            check(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), room, timeout) })
        })?;
        for event in events.iter().take(usize::try_from(n).unwrap_or(0)) {
            let (token, bits) = (event.u64, event.events.cast_signed());
            wakes.extend(match token {
                CALLED => clear(&self.called).then_some(Wake::Called),
                DEADLINE => clear(&self.timer).then(|| {
                    self.armed = None;
                    Wake::Deadline
                }),
                CLOCK => self.clock.as_ref().and_then(clock_stepped),
                token => Some(Wake::Ready {
                    token,
                    readable: bits & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP)
                        != 0,
                    writable: bits & (libc::EPOLLOUT | libc::EPOLLERR) != 0,
                    closed: bits & (libc::EPOLLHUP | libc::EPOLLRDHUP | libc::EPOLLERR) != 0,
                }),
            });
        }
        Ok(())
    }

    /// Sets the timer, only when the deadline is another one.
    fn arm(&mut self, deadline: Option<Mono>) -> io::Result<()> {
        if self.armed == deadline {
            return Ok(());
        }
        // A time of zero would disarm it; the first nanosecond after boot is as much in the past.
        let at = deadline.map_or(0, |d| d.0.max(1));
        let secs = i64::try_from(at / 1_000_000_000).unwrap_or(i64::MAX);
        set_timer(&self.timer, secs, (at % 1_000_000_000) as _, libc::TFD_TIMER_ABSTIME)?;
        self.armed = deadline;
        Ok(())
    }

    fn control(
        &self,
        what: libc::c_int,
        fd: BorrowedHandle<'_>,
        token: u64,
        events: libc::c_int,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
        // SAFETY: `event` lives through the call; both descriptors are open.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, fd.as_raw_fd(), &raw mut event) })?;
        Ok(())
    }
}

impl Interest {
    fn events(self) -> libc::c_int {
        match self {
            Interest::Read => libc::EPOLLIN | libc::EPOLLRDHUP,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLOUT,
        }
    }
}

fn checked(token: u64) -> io::Result<u64> {
    if token >= CLOCK {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this token is the waiter's own"));
    }
    Ok(token)
}

/// Reads the counter of an eventfd or timerfd, which clears it. False if there was none after all.
fn clear(fd: &OwnedFd) -> bool {
    read_counter(fd).is_ok()
}

fn read_counter(fd: &OwnedFd) -> io::Result<usize> {
    let mut count = [0_u8; 8];
    // SAFETY: `count` has the eight bytes that eventfd(2) and timerfd_create(2) write.
    again(|| check_len(unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) }))
}

fn clock_stepped(clock: &OwnedFd) -> Option<Wake> {
    // ECANCELED is the step (timerfd_create(2)); the far end of time itself, which would be a plain count, never comes.
    let stepped = read_counter(clock).is_err_and(|e| e.raw_os_error() == Some(libc::ECANCELED));
    let _ = arm_cancel(clock);
    stepped.then_some(Wake::ClockStepped)
}

fn arm_cancel(clock: &OwnedFd) -> io::Result<()> {
    set_timer(clock, i64::MAX, 0, libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET)
}

fn new_timer(clock: libc::clockid_t) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a descriptor that is returned is new and ours.
    unsafe { owned(libc::timerfd_create(clock, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)) }
}

fn set_timer(timer: &OwnedFd, secs: i64, nanos: libc::c_long, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: an itimerspec of zeroes is valid; it has padding on some 32-bit hosts, so no literal.
    let mut spec: libc::itimerspec = unsafe { mem::zeroed() };
    spec.it_value.tv_sec = secs as _;
    spec.it_value.tv_nsec = nanos;
    // SAFETY: `spec` lives through the call; the old value is not asked for.
    let answer = unsafe { libc::timerfd_settime(timer.as_raw_fd(), flags, &raw const spec, ptr::null_mut()) };
    match check(answer) {
        // Setting it under CANCEL_ON_SET may answer ECANCELED for a step in between; it is set all the same.
        Err(e) if e.raw_os_error() == Some(libc::ECANCELED) => Ok(()),
        Err(e) => Err(e),
        Ok(_) => Ok(()),
    }
}

/// # Safety
/// `fd` is a new descriptor that nobody owns, or -1.
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    let fd = check(fd)?;
    // SAFETY: as the caller promises.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::io::{Read, Write};
    use std::time::Duration;

    fn ready(wakes: &[Wake], wanted: u64) -> bool {
        wakes.iter().any(|w| matches!(w, Wake::Ready { token, readable: true, .. } if *token == wanted))
    }

    #[test]
    fn a_deadline_comes_once_and_not_early() {
        let (mut waiter, mut wakes) = (Waiter::new().unwrap(), Vec::new());
        let at = clock::mono() + Duration::from_millis(30);
        waiter.wait(Some(at), &mut wakes).unwrap();
        assert_eq!(wakes, [Wake::Deadline]);
        assert!(clock::mono() >= at);
        waiter.poll(&mut wakes).unwrap();
        assert!(wakes.is_empty());
        // The past comes at once, again and again.
        for past in [Mono(0), at, at] {
            waiter.wait(Some(past), &mut wakes).unwrap();
            assert_eq!(wakes, [Wake::Deadline]);
        }
    }

    #[test]
    fn a_deadline_can_be_moved_and_taken_back() {
        let (mut waiter, mut wakes) = (Waiter::new().unwrap(), Vec::new());
        waiter.waker().wake();
        waiter.wait(Some(clock::mono() + Duration::from_millis(20)), &mut wakes).unwrap();
        assert_eq!(wakes, [Wake::Called]);
        let waker = waiter.waker();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(60));
            waker.wake();
        });
        waiter.wait(None, &mut wakes).unwrap();
        assert_eq!(wakes, [Wake::Called]);
        thread.join().unwrap();
    }

    #[test]
    fn many_calls_are_one() {
        let (mut waiter, mut wakes) = (Waiter::new().unwrap(), Vec::new());
        let waker = waiter.waker();
        for _ in 0..1000 {
            waker.clone().wake();
        }
        waiter.wait(None, &mut wakes).unwrap();
        assert_eq!(wakes, [Wake::Called]);
        waiter.poll(&mut wakes).unwrap();
        assert!(wakes.is_empty());
    }

    #[test]
    fn handles_are_told_until_they_are_read_and_not_after_removal() {
        let (mut waiter, mut wakes) = (Waiter::new().unwrap(), Vec::new());
        let (mut reader, mut writer) = io::pipe().unwrap();
        waiter.add(reader.as_fd(), 7, Interest::Read).unwrap();
        assert!(waiter.add(reader.as_fd(), 7, Interest::Read).is_err());
        assert!(waiter.add(writer.as_fd(), CLOCK, Interest::Read).is_err());
        writer.write_all(b"x").unwrap();
        for _ in 0..2 {
            waiter.wait(None, &mut wakes).unwrap();
            assert!(ready(&wakes, 7));
        }
        reader.read_exact(&mut [0]).unwrap();
        waiter.poll(&mut wakes).unwrap();
        assert!(wakes.is_empty());
        drop(writer);
        waiter.wait(None, &mut wakes).unwrap();
        assert!(matches!(wakes[..], [Wake::Ready { token: 7, readable: true, closed: true, .. }]));
        waiter.remove(reader.as_fd()).unwrap();
        waiter.poll(&mut wakes).unwrap();
        assert!(wakes.is_empty());
    }

    #[test]
    fn room_to_write_is_told_only_on_request() {
        let (mut waiter, mut wakes) = (Waiter::new().unwrap(), Vec::new());
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        waiter.add(a.as_fd(), 1, Interest::Read).unwrap();
        waiter.poll(&mut wakes).unwrap();
        assert!(wakes.is_empty());
        waiter.modify(a.as_fd(), 1, Interest::ReadWrite).unwrap();
        waiter.poll(&mut wakes).unwrap();
        assert!(matches!(
            wakes[..],
            [Wake::Ready { token: 1, readable: false, writable: true, closed: false }]
        ));
    }

    #[test]
    fn a_step_of_the_wall_clock_is_told() {
        let (mut waiter, mut wakes) = (Waiter::new().unwrap(), Vec::new());
        waiter.watch_clock().unwrap();
        waiter.poll(&mut wakes).unwrap();
        assert!(wakes.is_empty());
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: reads the clock and sets it to what it is; without the right to do so it changes nothing.
        let set = unsafe {
            libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
            libc::clock_settime(libc::CLOCK_REALTIME, &raw const now)
        };
        if set == 0 {
            waiter.wait(Some(clock::mono() + Duration::from_secs(5)), &mut wakes).unwrap();
            assert_eq!(wakes, [Wake::ClockStepped]);
            waiter.poll(&mut wakes).unwrap();
            assert!(wakes.is_empty());
        }
    }
}
