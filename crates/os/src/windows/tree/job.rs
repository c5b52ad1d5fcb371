//! One job object: what is born in it cannot leave it, and neither can what that brings into the world.

use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_MORE_DATA, HANDLE};
use windows_sys::Win32::System::JobObjects::{
    CreateJobObjectW, JOB_OBJECT_CPU_RATE_CONTROL_ENABLE, JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP,
    JOB_OBJECT_LIMIT_ACTIVE_PROCESS, JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION,
    JOB_OBJECT_LIMIT_JOB_MEMORY, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_ASSOCIATE_COMPLETION_PORT,
    JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, JOBOBJECT_CPU_RATE_CONTROL_INFORMATION,
    JOBOBJECT_CPU_RATE_CONTROL_INFORMATION_0, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JOBOBJECTINFOCLASS,
    JobObjectAssociateCompletionPortInformation, JobObjectBasicAccountingInformation,
    JobObjectBasicProcessIdList, JobObjectCpuRateControlInformation, JobObjectExtendedLimitInformation,
    QueryInformationJobObject, SetInformationJobObject, TerminateJobObject,
};

use super::super::sys::{self, check, owned};
use super::super::wait::{POSTED, Port};
use super::Limits;

/// See the module. All of it ends when this is dropped: nobody else may ever have a handle of it.
#[derive(Debug)]
pub(crate) struct Job(OwnedHandle);

/// What a job tells at the port (JOBOBJECT_ASSOCIATE_COMPLETION_PORT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// No process is left in it.
    Empty,
    /// It ran into its memory limit.
    Memory,
    /// Anything else.
    Other,
}

/// Which limits this system holds; Wine accepts all and holds none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Holds {
    pub(crate) memory: bool,
    pub(crate) cpu: bool,
    pub(crate) tasks: bool,
}

impl Message {
    pub(crate) fn of(number: u32) -> Message {
        use windows_sys::Win32::System::SystemServices::{
            JOB_OBJECT_MSG_ACTIVE_PROCESS_ZERO, JOB_OBJECT_MSG_JOB_MEMORY_LIMIT,
        };
        match number {
            JOB_OBJECT_MSG_ACTIVE_PROCESS_ZERO => Message::Empty,
            JOB_OBJECT_MSG_JOB_MEMORY_LIMIT => Message::Memory,
            _ => Message::Other,
        }
    }
}

impl Job {
    /// An empty one that ends with this process, and tells of itself under `key`.
    pub(crate) fn new(port: &Port, key: usize, limits: &Limits) -> io::Result<Job> {
        let job = Job::silent()?;
        job.limit(limits, &Limits::default())?;
        let associate = JOBOBJECT_ASSOCIATE_COMPLETION_PORT {
            CompletionKey: ptr::without_provenance_mut(key | POSTED),
            CompletionPort: port.raw(),
        };
        job.set(JobObjectAssociateCompletionPortInformation, &associate)?;
        Ok(job)
    }

    /// One without limits that tells nobody.
    pub(crate) fn silent() -> io::Result<Job> {
        // SAFETY: no pointers; a handle that is returned is new and ours.
        Ok(Job(unsafe { owned(CreateJobObjectW(ptr::null(), ptr::null()))? }))
    }

    /// Sets its limits, also on what is in it already, in the place of those `before`.
    pub(crate) fn limit(&self, limits: &Limits, before: &Limits) -> io::Result<()> {
        self.set(JobObjectExtendedLimitInformation, &extended(limits))?;
        match (limits.cpu_millis, before.cpu_millis) {
            (Some(millis), _) => self.set(JobObjectCpuRateControlInformation, &rate(cpu_rate(millis))),
            (None, Some(_)) => self
                .set(JobObjectCpuRateControlInformation, &JOBOBJECT_CPU_RATE_CONTROL_INFORMATION::default()),
            (None, None) => Ok(()),
        }
    }

    /// Whether this system holds a limit of each kind, found out by setting one and reading it back.
    pub(crate) fn holds() -> Holds {
        let Ok(job) = Job::silent() else { return Holds::default() };
        let tried = Limits { memory: Some(1 << 30), cpu_millis: None, tasks: Some(1000) };
        let kept: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = match job.limit(&tried, &Limits::default()) {
            Ok(()) => job.get(JobObjectExtendedLimitInformation).unwrap_or_default(),
            Err(_) => JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default(),
        };
        let wanted = extended(&tried);
        let cpu = job.set(JobObjectCpuRateControlInformation, &rate(5_000)).is_ok()
            && job
                .get::<JOBOBJECT_CPU_RATE_CONTROL_INFORMATION>(JobObjectCpuRateControlInformation)
                .is_ok_and(|info| info.ControlFlags == rate(5_000).ControlFlags);
        Holds {
            memory: kept.JobMemoryLimit == wanted.JobMemoryLimit,
            tasks: kept.BasicLimitInformation.ActiveProcessLimit
                == wanted.BasicLimitInformation.ActiveProcessLimit,
            cpu,
        }
    }

    fn get<T: Default>(&self, class: JOBOBJECTINFOCLASS) -> io::Result<T> {
        let mut info = T::default();
        let (size, none) = (size_of::<T>() as u32, ptr::null_mut());
        // SAFETY: `info` is the structure of this class.
        check(unsafe { QueryInformationJobObject(self.raw(), class, (&raw mut info).cast(), size, none) })?;
        Ok(info)
    }

    fn set<T>(&self, class: JOBOBJECTINFOCLASS, info: &T) -> io::Result<()> {
        // SAFETY: `info` is the structure of this class and lives through the call.
        check(unsafe {
            SetInformationJobObject(self.raw(), class, ptr::from_ref(info).cast(), size_of::<T>() as u32)
        })
    }

    pub(crate) fn raw(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    /// How many processes are in it.
    pub(crate) fn active(&self) -> u32 {
        self.accounting().ActiveProcesses
    }

    /// Processor time of all that ever was in it, in microseconds. `None`: not counted, as under Wine.
    pub(crate) fn cpu_usec(&self) -> Option<u64> {
        let info = self.accounting();
        u64::try_from((info.TotalUserTime + info.TotalKernelTime) / 10).ok().filter(|usec| *usec > 0)
    }

    fn accounting(&self) -> JOBOBJECT_BASIC_ACCOUNTING_INFORMATION {
        // A job that cannot be asked counts as empty: what is in it is looked at again, and ends with it.
        self.get(JobObjectBasicAccountingInformation).unwrap_or_default()
    }

    /// The processes in it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut room = 64;
        loop {
            // Two counts of 32 bits, then the numbers, each as wide as a pointer.
            let mut list = vec![0_usize; 1 + room];
            let size = u32::try_from(size_of_val(list.as_slice())).unwrap_or(u32::MAX);
            let (class, none) = (JobObjectBasicProcessIdList, ptr::null_mut());
            // SAFETY: `list` has `size` bytes.
            let answer =
                unsafe { QueryInformationJobObject(self.raw(), class, list.as_mut_ptr().cast(), size, none) };
            let more = check(answer).is_err_and(|e| sys::is(&e, ERROR_MORE_DATA));
            if more && room < 1 << 20 {
                room *= 4;
                continue;
            }
            let counts = list.first().copied().unwrap_or_default();
            let listed = if answer == 0 { 0 } else { counts >> 32 };
            let pids = list.iter().skip(1).take(listed);
            return pids.filter_map(|pid| u32::try_from(*pid).ok()).collect();
        }
    }

    /// Ends every process in it, and those that they are about to start.
    pub(crate) fn terminate(&self, code: u32) {
        // SAFETY: an open job; a failure leaves what is looked at and killed again.
        unsafe { TerminateJobObject(self.raw(), code) };
    }
}

fn extended(limits: &Limits) -> JOBOBJECT_EXTENDED_LIMIT_INFORMATION {
    let mut info = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    // A crash ends the process instead of asking a desktop that nobody looks at.
    let mut flags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION;
    if let Some(bytes) = limits.memory {
        flags |= JOB_OBJECT_LIMIT_JOB_MEMORY;
        info.JobMemoryLimit = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    if let Some(count) = limits.tasks {
        flags |= JOB_OBJECT_LIMIT_ACTIVE_PROCESS;
        info.BasicLimitInformation.ActiveProcessLimit = u32::try_from(count).unwrap_or(u32::MAX);
    }
    info.BasicLimitInformation.LimitFlags = flags;
    info
}

fn rate(rate: u32) -> JOBOBJECT_CPU_RATE_CONTROL_INFORMATION {
    JOBOBJECT_CPU_RATE_CONTROL_INFORMATION {
        ControlFlags: JOB_OBJECT_CPU_RATE_CONTROL_ENABLE | JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP,
        Anonymous: JOBOBJECT_CPU_RATE_CONTROL_INFORMATION_0 { CpuRate: rate },
    }
}

/// Ten-thousandths of all processors, of thousandths of one.
fn cpu_rate(millis: u32) -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    share(millis, processors)
}

fn share(millis: u32, processors: u64) -> u32 {
    u32::try_from((u64::from(millis) * 10 / processors).clamp(1, 10_000)).unwrap_or(10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_processors_become_parts_of_all() {
        assert_eq!(share(1500, 4), 3750);
        assert_eq!(share(64_000, 4), 10_000);
        assert_eq!(share(1, 64), 1);
    }

    #[test]
    fn limits_become_the_flags_that_switch_them_on() {
        let none = extended(&Limits::default());
        assert_eq!(
            none.BasicLimitInformation.LimitFlags
                & (JOB_OBJECT_LIMIT_JOB_MEMORY | JOB_OBJECT_LIMIT_ACTIVE_PROCESS),
            0
        );
        assert_ne!(none.BasicLimitInformation.LimitFlags & JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, 0);
        let all = extended(&Limits { memory: Some(5 << 20), cpu_millis: None, tasks: Some(7) });
        assert_eq!((all.JobMemoryLimit, all.BasicLimitInformation.ActiveProcessLimit), (5 << 20, 7));
        let flags = JOB_OBJECT_LIMIT_JOB_MEMORY | JOB_OBJECT_LIMIT_ACTIVE_PROCESS;
        assert_eq!(all.BasicLimitInformation.LimitFlags & flags, flags);
    }

    #[test]
    fn an_empty_job_holds_nobody_and_takes_limits_again_and_again() {
        let job = Job::silent().unwrap();
        assert_eq!((job.active(), job.pids(), job.cpu_usec()), (0, vec![], None));
        let some = Limits { memory: Some(1 << 30), cpu_millis: None, tasks: Some(9) };
        job.limit(&some, &Limits::default()).unwrap();
        job.limit(&Limits::default(), &some).unwrap();
        // The answer is the system's; that there is one, and always the same, is ours.
        assert_eq!(Job::holds(), Job::holds());
    }
}
