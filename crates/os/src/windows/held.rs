//! A program that this process runs itself, with all that it starts, which ends with it.
#![expect(unsafe_code, reason = "a job's process has no safe form in the standard library")]

use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::Path;

use windows_sys::Win32::Foundation::{WAIT_OBJECT_0, WAIT_TIMEOUT};
use windows_sys::Win32::System::Threading::{GetExitCodeProcess, WaitForSingleObject};

use super::ipc::AsHandle;
use super::program;
use super::spawn::{Spawner, Stdio};
use super::sys::check;
use super::tree::job::Job;
use crate::types::{SpawnRequest, TreeLimits};

/// Where the program reads.
pub type Input = PipeWriter;

/// All of it ends when this is dropped.
#[derive(Debug)]
pub struct Held {
    process: OwnedHandle,
    job: Job,
}

impl Held {
    /// Starts `program` with `arguments` in `folder`, where its name is looked for if it has a folder, in `PATH` otherwise. Its
    /// output goes nowhere.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn start(
        program: &str,
        arguments: &[&str],
        folder: &Path,
        _guardian: &str,
    ) -> io::Result<(Held, Input)> {
        let path = std::env::var("PATH").unwrap_or_default();
        let file = program::find(program, &path, folder).map_err(|e| io::Error::other(e.to_string()))?;
        let bytes = |path: &Path| path.to_string_lossy().into_owned().into_bytes();
        let own = std::env::vars_os().map(|(name, value)| {
            format!("{}={}", name.to_string_lossy(), value.to_string_lossy()).into_bytes()
        });
        let request = SpawnRequest {
            program: bytes(&file),
            argv: [program].iter().chain(arguments).map(|word| word.as_bytes().to_vec()).collect(),
            env: own.collect(),
            cwd: bytes(folder),
            ..SpawnRequest::default()
        };
        let (reader, input) = io::pipe()?;
        let null = File::options().read(true).write(true).open("NUL")?;
        let job = Job::silent()?;
        job.limit(&TreeLimits::default(), &TreeLimits::default())?;
        let stdio = Stdio { stdout: null.as_handle(), stderr: null.as_handle() };
        let spawner = Spawner::reading(OwnedHandle::from(reader).into());
        let started = spawner.spawn(&request, stdio, &[&job]);
        let process = started.map_err(|failed| io::Error::from_raw_os_error(failed.errno))?.process;
        Ok((Held { process, job }, input))
    }

    /// How it ended, if it has: its exit code.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> io::Result<Option<Option<i32>>> {
        let mut code = 0;
        // SAFETY: an open process; `code` lives through the call.
        unsafe {
            match WaitForSingleObject(self.process.as_raw_handle(), 0) {
                WAIT_TIMEOUT => return Ok(None),
                WAIT_OBJECT_0 => {}
                _ => return Err(io::Error::last_os_error()),
            }
            check(GetExitCodeProcess(self.process.as_raw_handle(), &raw mut code))?;
        }
        Ok(Some(Some(code.cast_signed())))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Its handle closes with this, which ends what is in it, too; but not where Wine forgets to.
        self.job.terminate(1);
    }
}
