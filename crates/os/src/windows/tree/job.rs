//! One job object: what a run brings into the world is born in it and cannot leave it.

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
        // SAFETY: no pointers; a handle that is returned is new and ours.
        let job = Job(unsafe { owned(CreateJobObjectW(ptr::null(), ptr::null()))? });
        job.limit(limits)?;
        let associate = JOBOBJECT_ASSOCIATE_COMPLETION_PORT {
            CompletionKey: ptr::without_provenance_mut(key | POSTED),
            CompletionPort: port.raw(),
        };
        job.set(JobObjectAssociateCompletionPortInformation, &associate)?;
        Ok(job)
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
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
        self.set(JobObjectExtendedLimitInformation, &info)?;
        if let Some(millis) = limits.cpu_millis {
            let info = JOBOBJECT_CPU_RATE_CONTROL_INFORMATION {
                ControlFlags: JOB_OBJECT_CPU_RATE_CONTROL_ENABLE | JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP,
                Anonymous: JOBOBJECT_CPU_RATE_CONTROL_INFORMATION_0 { CpuRate: cpu_rate(millis) },
            };
            self.set(JobObjectCpuRateControlInformation, &info)?;
        }
        Ok(())
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
        let mut info = JOBOBJECT_BASIC_ACCOUNTING_INFORMATION::default();
        let (size, none) = (size_of_val(&info) as u32, ptr::null_mut());
        let class = JobObjectBasicAccountingInformation;
        // SAFETY: `info` is the structure of this class.
        let answer =
            unsafe { QueryInformationJobObject(self.raw(), class, (&raw mut info).cast(), size, none) };
        if answer == 0 { 0 } else { info.ActiveProcesses }
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

/// Ten-thousandths of all processors, of thousandths of one.
fn cpu_rate(millis: u32) -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    u32::try_from((u64::from(millis) * 10 / processors).clamp(1, 10_000)).unwrap_or(10_000)
}
