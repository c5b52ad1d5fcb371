//! Moves bytes from pipes into files, each once, whatever becomes of this process meanwhile.
//!
//! Nothing here takes bytes out of a pipe and puts them into a file in one step. So they are copied out of the pipe, which
//! keeps them; where they will stand is recorded; they are written there; and then that many are taken out. The records
//! are in a mapped file, so that they outlive this process, and hold what the system fills in as it takes bytes out
//! (`OVERLAPPED`), within the same call: a thread that is ended in a call comes to the end of the call first. So the next
//! process knows how much was taken, and cuts off the file what it finds in the pipe too. Wine fills it in after the
//! call; for an end between the two the bytes themselves tell, and may be wrong where a pipe holds the same line again.
//!
//! A process may be ended between any two stores: a record is of no move until all of it stands, and stands until the file
//! is cut, so that one who is ended amid that leaves the next one the same to do.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, HANDLE, STATUS_PENDING};
use windows_sys::Win32::Storage::FileSystem::ReadFile;
use windows_sys::Win32::System::IO::{GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_WRITE, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile, PAGE_READWRITE,
    UnmapViewOfFile,
};

use super::super::ipc::{BorrowedHandle, broken};
use super::super::sys::{self, check, owned};
use super::{look, open_sink, read_at, write_at};

/// Moved at once, through memory of ours.
const PIECE: usize = 64 << 10;
/// Mapped at once: what the system maps at least.
const VIEW: usize = 64 << 10;
const RECORDS: u32 = (VIEW / size_of::<Record>()) as u32;
/// More pipes than a host can have; beyond, nothing is recorded.
const VIEWS: usize = 256;

/// What is being moved from one pipe.
#[repr(C, align(64))]
struct Record {
    /// The file's number; 0: it keeps nothing.
    number: u64,
    offset: u64,
    /// 0: nothing is.
    len: u64,
    /// Whether and how much was taken out of the pipe.
    taken: OVERLAPPED,
}

impl Record {
    /// How many of its bytes are known to be out of the pipe; none: it is not known.
    fn taken(&self) -> Option<u64> {
        // Nobody is told of no bytes; of the two numbers the first stands without the other for a moment.
        Some(self.taken.InternalHigh as u64).filter(|taken| self.taken.Internal == 0 && *taken > 0)
    }
}

/// Where in a file bytes go.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The file.
    pub file: &'a File,
    /// [`super::file_number`] of it; 0 for what keeps nothing.
    pub number: u64,
    /// From its beginning.
    pub offset: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Mover {
    file: Option<File>,
    views: Vec<View>,
    piece: Vec<u8>,
    done: OwnedHandle,
}

impl Mover {
    /// Goes on where another process left off. Without the file, which `path` names, what is moved while this process ends
    /// may be in both.
    ///
    /// # Errors
    /// When the host is out of memory.
    pub fn open(path: &Path) -> io::Result<Mover> {
        let file = open_sink(path).ok().map(|(file, _)| file);
        Ok(Mover { file, views: Vec::new(), piece: Vec::new(), done: sys::event(false)? })
    }

    /// Moves up to `len` bytes. `key` is the pipe's number: small, and the same in the next process. 0 means that no
    /// writer is left and the pipe is empty.
    ///
    /// # Errors
    /// `WouldBlock`: the pipe is empty. `Interrupted`: the file is no longer that long. Anything else is the file's. The bytes
    /// are still in the pipe.
    pub fn move_to_file(
        &mut self,
        key: u32,
        pipe: BorrowedHandle<'_>,
        to: Place<'_>,
        len: usize,
    ) -> io::Result<usize> {
        self.piece.resize(PIECE, 0);
        // What is seen now was written after what was done to the file before.
        let n = match look(pipe.raw(), self.piece.get_mut(..len.min(PIECE)).unwrap_or_default()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            n => n?,
        };
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if to.number > 0 && to.file.metadata()?.len() < to.offset {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut unmapped = Record::none();
        let record = self.record(key).unwrap_or(&raw mut unmapped);
        // SAFETY: a record of ours, that nobody else touches.
        unsafe { Record::begin(record, to.number, to.offset, n) };
        let written = match write_at(to.file, self.piece.get(..n).unwrap_or_default(), to.offset) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        };
        // SAFETY: as above.
        unsafe { Record::set_len(record, *written.as_ref().unwrap_or(&0)) };
        let written = written?;
        let mut left = written;
        loop {
            let taken = self.take(pipe.raw(), left, record)?;
            left -= taken.min(left);
            if left == 0 {
                return Ok(written);
            }
            // A pipe that has the bytes gives them all; this is for one that would not.
            // SAFETY: as above.
            unsafe { Record::begin(record, to.number, to.offset + (written - left) as u64, left) };
        }
    }

    /// Takes `len` bytes out of a pipe that has them.
    fn take(&mut self, pipe: HANDLE, len: usize, record: *mut Record) -> io::Result<usize> {
        let (into, room) = (self.piece.as_mut_ptr(), u32::try_from(len.min(PIECE)).unwrap_or(0));
        let mut taken = 0;
        // SAFETY: `into` has room for that many bytes; it and `record` outlive the read, whose end is waited for.
        let answer = unsafe {
            let overlapped = &raw mut (*record).taken;
            (*overlapped).hEvent = self.done.as_raw_handle();
            match check(ReadFile(pipe, into, room, ptr::null_mut(), overlapped)) {
                Err(e) if !sys::is(&e, ERROR_IO_PENDING) => return Err(broken(e)),
                _ => GetOverlappedResult(pipe, overlapped, &raw mut taken, 1),
            }
        };
        check(answer).map_err(broken)?;
        Ok(taken as usize)
    }

    /// Where a file that the pipe was moved into goes on: its end. What was being moved into it as an earlier process ended,
    /// and is still in the pipe or in `drained` (which was taken out of the pipe since), is cut off first.
    ///
    /// # Errors
    /// The file's.
    pub fn resume(
        &mut self,
        key: u32,
        pipe: BorrowedHandle<'_>,
        drained: &[u8],
        file: &File,
    ) -> io::Result<u64> {
        let end = file.metadata()?.len();
        let Some(record) = self.record(key) else { return Ok(end) };
        // SAFETY: a record of ours, that nobody else touches; any bytes make one.
        let left = unsafe { record.read_volatile() };
        let of_it = left.len > 0 && left.number > 0 && super::file_number(file) == Some(left.number);
        let cut = if of_it {
            left.cut(end, |len| self.is_there(pipe, drained, file, left.offset, len))
        } else {
            None
        };
        if let Some(cut) = cut {
            file.set_len(cut)?;
        }
        self.forget(key);
        Ok(cut.unwrap_or(end))
    }

    /// Whether the next `len` bytes are those that the file has at this offset.
    fn is_there(
        &mut self,
        pipe: BorrowedHandle<'_>,
        drained: &[u8],
        file: &File,
        offset: u64,
        len: usize,
    ) -> bool {
        let (mut next, mut written) = (drained.get(..len).unwrap_or(drained).to_vec(), vec![0; len]);
        let known = next.len();
        next.resize(len, 0);
        let Some(rest) = next.get_mut(known..) else { return false };
        let whole = rest.is_empty() || look(pipe.raw(), rest).is_ok_and(|n| n == len - known);
        whole && read_at(file, &mut written, offset).is_ok_and(|n| n == len) && next == written
    }

    /// The pipe of this number is no more.
    pub fn forget(&mut self, key: u32) {
        if let Some(record) = self.record(key) {
            // SAFETY: a record of ours, that nobody else touches.
            unsafe { Record::set_len(record, 0) };
        }
    }

    fn record(&mut self, key: u32) -> Option<*mut Record> {
        let (view, at) = ((key / RECORDS) as usize, (key % RECORDS) as usize);
        while self.views.len() <= view && self.views.len() < VIEWS {
            let file = self.file.as_ref()?;
            match View::of(file, self.views.len()) {
                Ok(view) => self.views.push(view),
                Err(_) => {
                    // It is tried once.
                    self.file = None;
                    return None;
                }
            }
        }
        // SAFETY: the view has room for RECORDS of them.
        self.views.get(view).map(|view| unsafe { view.0.add(at) })
    }
}

impl Record {
    fn none() -> Record {
        Record { number: 0, offset: 0, len: 0, taken: OVERLAPPED::default() }
    }

    /// Records a move of which nothing is taken out of the pipe yet.
    ///
    /// # Safety
    /// It can be written, and nobody else touches it.
    unsafe fn begin(record: *mut Record, number: u64, offset: u64, len: usize) {
        let taken = OVERLAPPED { Internal: STATUS_PENDING.cast_unsigned() as usize, ..OVERLAPPED::default() };
        // SAFETY: by the caller. Volatile, so that they are stored in this order.
        unsafe {
            Record::set_len(record, 0);
            (&raw mut (*record).number).write_volatile(number);
            (&raw mut (*record).offset).write_volatile(offset);
            (&raw mut (*record).taken).write_volatile(taken);
            Record::set_len(record, len);
        }
    }

    /// # Safety
    /// As [`Record::begin`].
    unsafe fn set_len(record: *mut Record, len: usize) {
        // SAFETY: by the caller.
        unsafe { (&raw mut (*record).len).write_volatile(len as u64) };
    }

    /// Where a file that now ends at `end` is to be cut, if it is to be. `is_there` says whether the next bytes of the pipe are
    /// the first that many of this record.
    fn cut(&self, end: u64, is_there: impl FnOnce(usize) -> bool) -> Option<u64> {
        let whole = self.offset.checked_add(self.len)?;
        let cut = match self.taken() {
            Some(taken) if taken >= self.len => return None,
            Some(taken) => self.offset + taken,
            // They are taken out only when all are written.
            None if end < whole => self.offset,
            None => {
                let len = usize::try_from(self.len).ok().filter(|n| *n <= PIECE)?;
                is_there(len).then_some(self.offset)?
            }
        };
        (end > cut).then_some(cut)
    }
}

/// A part of the mapped file.
#[derive(Debug)]
struct View(*mut Record);

// SAFETY: memory of the process, whichever thread uses it.
unsafe impl Send for View {}

impl View {
    fn of(file: &File, number: usize) -> io::Result<View> {
        let (begin, end) = ((number * VIEW) as u64, ((number + 1) * VIEW) as u64);
        let halves = |n: u64| ((n >> 32) as u32, n as u32);
        let ((begin_high, begin_low), (end_high, end_low)) = (halves(begin), halves(end));
        // SAFETY: an open file, which becomes that long; the mapping is ours and lives on in its view.
        unsafe {
            let mapping = owned(CreateFileMappingW(
                file.as_raw_handle(),
                ptr::null(),
                PAGE_READWRITE,
                end_high,
                end_low,
                ptr::null(),
            ))?;
            let view = MapViewOfFile(mapping.as_raw_handle(), FILE_MAP_WRITE, begin_high, begin_low, VIEW);
            if view.Value.is_null() { Err(io::Error::last_os_error()) } else { Ok(View(view.Value.cast())) }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: mapped by us, and nobody has a record of it any more.
        unsafe { UnmapViewOfFile(MEMORY_MAPPED_VIEW_ADDRESS { Value: self.0.cast() }) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ipc::{AsHandle, Handle};
    use super::super::{available, file_number, pipe, read};
    use super::*;
    use std::io::Write;

    struct Bench {
        dir: tempfile::TempDir,
        log: File,
        read: Handle,
        write: File,
    }

    impl Bench {
        fn new(bytes: &[u8]) -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let (log, _) = open_sink(&dir.path().join("web.log")).unwrap();
            let (read, write) = pipe().unwrap();
            let mut write = File::from(write);
            write.write_all(bytes).unwrap();
            Bench { dir, log, read, write }
        }

        fn mover(&self) -> Mover {
            Mover::open(&self.dir.path().join("moves")).unwrap()
        }

        fn place(&self, offset: u64) -> Place<'_> {
            Place { file: &self.log, number: file_number(&self.log).unwrap(), offset }
        }

        /// What a process leaves that ended after `written` of `len` bytes at `offset` were written, and `taken` taken out; not
        /// noted: as Wine leaves it.
        fn end_within(&self, offset: u64, len: usize, written: usize, taken: usize, noted: bool) {
            let mut mover = self.mover();
            let mut bytes = vec![0; len];
            assert_eq!(look(self.read.as_handle().raw(), &mut bytes).unwrap(), len);
            write_at(&self.log, &bytes[..written], offset).unwrap();
            let number = file_number(&self.log).unwrap();
            let record = mover.record(7).unwrap();
            // SAFETY: nobody else touches it.
            unsafe { Record::begin(record, number, offset, len) };
            if taken > 0 {
                assert_eq!(read(self.read.as_handle(), &mut bytes[..taken]).unwrap(), taken);
            }
            if noted {
                // SAFETY: as above.
                unsafe { ((*record).taken.Internal, (*record).taken.InternalHigh) = (0, taken) };
            }
        }

        /// Goes on, moves all, and gives what the file then has.
        fn go_on(&self, drained: &[u8]) -> String {
            let mut mover = self.mover();
            let mut offset = mover.resume(7, self.read.as_handle(), drained, &self.log).unwrap();
            offset += write_at(&self.log, drained, offset).unwrap() as u64;
            while let Ok(n) = mover.move_to_file(7, self.read.as_handle(), self.place(offset), 1 << 20) {
                offset += n as u64;
            }
            let mut text = vec![0; offset as usize];
            assert_eq!(read_at(&self.log, &mut text, 0).unwrap() as u64, self.log.metadata().unwrap().len());
            String::from_utf8(text).unwrap()
        }
    }

    #[test]
    fn bytes_move_to_an_offset_and_leave_the_pipe() {
        let bench = Bench::new(b"hello world");
        write_at(&bench.log, b"old ", 0).unwrap();
        let (mut mover, pipe) = (bench.mover(), bench.read.as_handle());
        assert_eq!(mover.move_to_file(3, pipe, bench.place(4), 5).unwrap(), 5);
        assert_eq!(available(pipe).unwrap(), 6);
        // Of another pipe, in another part of the file.
        assert_eq!(mover.move_to_file(5000, pipe, bench.place(9), 100).unwrap(), 6);
        let empty = mover.move_to_file(3, pipe, bench.place(15), 100).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        let mut bytes = [0; 20];
        assert_eq!(read_at(&bench.log, &mut bytes, 0).unwrap(), 15);
        assert_eq!(&bytes[..15], b"old hello world");
        let Bench { dir: _dir, log, read, write } = bench;
        drop(write);
        let to = Place { file: &log, number: 1, offset: 15 };
        assert_eq!(mover.move_to_file(3, read.as_handle(), to, 100).unwrap(), 0);
    }

    #[test]
    fn whatever_the_moment_of_the_end_each_byte_is_written_once() {
        let text = "one\ntwo\nthree\n";
        for noted in [true, false] {
            // Before anything was written, within it, before anything was taken.
            for written in [0, 1, 7, 8] {
                let bench = Bench::new(text.as_bytes());
                write_at(&bench.log, b"old\n", 0).unwrap();
                bench.end_within(4, 8, written, 0, false);
                assert_eq!(bench.go_on(b""), format!("old\n{text}"), "{written} written");
            }
            let bench = Bench::new(text.as_bytes());
            bench.end_within(0, 8, 8, 8, noted);
            assert_eq!(bench.go_on(b""), text, "all taken, noted: {noted}");
        }
        // A part of them was taken.
        let bench = Bench::new(text.as_bytes());
        bench.end_within(0, 8, 8, 5, true);
        assert_eq!(bench.go_on(b""), text);
    }

    #[test]
    fn lines_alike_are_told_apart_by_what_the_system_noted() {
        let mut bench = Bench::new(b"tick\ntick\n");
        bench.end_within(0, 5, 5, 5, true);
        bench.write.write_all(b"tick\n").unwrap();
        assert_eq!(bench.go_on(b""), "tick\ntick\ntick\n");
    }

    #[test]
    fn a_move_notes_what_it_took() {
        let bench = Bench::new(b"tick\ntick\n");
        let mut mover = bench.mover();
        assert_eq!(mover.move_to_file(7, bench.read.as_handle(), bench.place(0), 5).unwrap(), 5);
        let record = mover.record(7).unwrap();
        // SAFETY: nobody else touches it.
        assert_eq!(unsafe { ((*record).taken(), (*record).len) }, (Some(5), 5));
        drop(mover);
        assert_eq!(bench.go_on(b""), "tick\ntick\n");
    }

    #[test]
    fn a_move_that_was_done_cuts_nothing_off_whatever_became_of_the_file() {
        let bench = Bench::new(b"tick\ntick\n");
        let mut mover = bench.mover();
        let place = bench.place(100);
        let shorter = mover.move_to_file(7, bench.read.as_handle(), place, 10).unwrap_err();
        assert_eq!(shorter.kind(), io::ErrorKind::Interrupted, "there would be a hole");
        bench.log.set_len(100).unwrap();
        assert_eq!(mover.move_to_file(7, bench.read.as_handle(), place, 10).unwrap(), 10);
        drop(mover);
        // Somebody emptied it, and it has grown again, by another pipe's output.
        bench.log.set_len(104).unwrap();
        assert_eq!(bench.mover().resume(7, bench.read.as_handle(), b"", &bench.log).unwrap(), 104);
    }

    #[test]
    fn who_is_ended_while_it_goes_on_leaves_the_next_one_the_same() {
        for (written, taken, cut) in [(5, 0, 4), (8, 0, 4), (8, 5, 9)] {
            let bench = Bench::new(b"one\ntwo\nthree\n");
            write_at(&bench.log, b"old\n", 0).unwrap();
            bench.end_within(4, 8, written, taken, taken > 0);
            let mut mover = bench.mover();
            let record = mover.record(7).unwrap();
            // SAFETY: nobody else touches it.
            let left = unsafe { record.read() };
            assert_eq!(mover.resume(7, bench.read.as_handle(), b"", &bench.log).unwrap(), cut);
            // Ended after the cut and before it was noted that it is done.
            // SAFETY: as above.
            unsafe { record.write(left) };
            assert_eq!(bench.go_on(b""), "old\none\ntwo\nthree\n", "{written} written, {taken} taken");
        }
    }

    #[test]
    fn what_was_drained_meanwhile_counts_as_the_pipe() {
        let bench = Bench::new(b"one\ntwo\nthree\n");
        bench.end_within(0, 8, 8, 0, false);
        let mut drained = [0; 6];
        assert_eq!(read(bench.read.as_handle(), &mut drained).unwrap(), 6);
        assert_eq!(bench.go_on(&drained), "one\ntwo\nthree\n");
    }

    #[test]
    fn another_file_is_left_alone_and_so_is_one_after_a_forgotten_pipe() {
        let bench = Bench::new(b"one\ntwo\n");
        bench.end_within(0, 8, 8, 0, false);
        let (other, _) = open_sink(&bench.dir.path().join("other.log")).unwrap();
        write_at(&other, b"one\ntwo\n", 0).unwrap();
        assert_eq!(bench.mover().resume(7, bench.read.as_handle(), b"", &other).unwrap(), 8);
        bench.end_within(0, 8, 8, 0, false);
        bench.mover().forget(7);
        assert_eq!(bench.mover().resume(7, bench.read.as_handle(), b"", &bench.log).unwrap(), 8);
    }

    #[test]
    fn without_the_file_bytes_move_all_the_same() {
        let bench = Bench::new(b"hello");
        let mut mover = Mover::open(bench.dir.path()).unwrap();
        assert_eq!(mover.move_to_file(7, bench.read.as_handle(), bench.place(0), 9).unwrap(), 5);
        assert_eq!(mover.resume(7, bench.read.as_handle(), b"", &bench.log).unwrap(), 5);
    }
}
