//! How fast the log path is, against the barest loop that does the same: epoll, splice, and rename at 10 MB.
//!
//! `cargo run --release -p keepwell-daemon --example log_throughput [FOLDER] [MIB]`
//!
//! Both write the same flood of 120-byte lines, in turns; the medians of both and their ratios are printed. CPU is that
//! of the thread that moves the bytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use keepwell_daemon::log::{LogHub, LogSpec};
use keepwell_os::wait::{Interest, Waiter};
use keepwell_os::{AsHandle, Handle, pipe};

const ROTATE: u64 = 10_000_000;
const KEEP: u32 = 5;
const LARGE: usize = 1 << 20;
const ROUNDS: usize = 7;

/// Seconds, and CPU seconds.
type Cost = (f64, f64);

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from).join("keepwell-log-throughput");
    let mib: u64 = args.next().and_then(|n| n.parse().ok()).unwrap_or(1024);
    fs::create_dir_all(&folder)?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(run_bare(&folder.join("bare.log"), mib << 20)?);
        ours.push(run_hub(&folder.join("hub.log"), mib << 20)?);
    }
    let gib = mib as f64 / 1024.0;
    let show = |name: &str, (seconds, cpu): Cost| {
        println!("{name:10} {:7.0} MB/s  {:.3} CPU s/GiB", gib * 1_073.741_824 / seconds, cpu / gib);
    };
    let (bare, ours) = (median(bare), median(ours));
    show("bare loop", bare);
    show("keepwell", ours);
    println!("throughput {:.3} x (bar 0.95)   CPU {:.3} x (bar 1.15)", bare.0 / ours.0, ours.1 / bare.1);
    fs::remove_dir_all(&folder)
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let wall = costs[costs.len() / 2].0;
    costs.sort_by(|a, b| a.1.total_cmp(&b.1));
    (wall, costs[costs.len() / 2].1)
}

/// Writes lines in blocks of 64 KB, as fast as it can.
fn flood(write: Handle, bytes: u64) -> thread::JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        let mut write = File::from(write);
        let mut block = format!("{:a<119}\n", "").into_bytes().repeat(546);
        for n in 0..bytes / block.len() as u64 {
            block[..12].copy_from_slice(format!("{n:012}").as_bytes());
            write.write_all(&block)?;
        }
        Ok(())
    })
}

fn run_bare(file: &Path, bytes: u64) -> io::Result<Cost> {
    let (read, write) = pipe::pipe()?;
    pipe::set_capacity(read.as_handle(), LARGE)?;
    let began = Instant::now();
    let writer = flood(write, bytes);
    let before = cpu_of_this_thread()?;
    let mut waiter = Waiter::new()?;
    waiter.add(read.as_handle(), 0, Interest::Read)?;
    let (mut wakes, mut offset) = (Vec::new(), 0);
    let mut mover = pipe::Mover::open(&file.with_extension("moves"))?;
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).open(file)?;
    'all: loop {
        waiter.wait(None, &mut wakes)?;
        for _ in 0..64 {
            if offset >= ROTATE {
                for n in (1..KEEP).rev() {
                    let _ = fs::rename(aside(file, n), aside(file, n + 1));
                }
                fs::rename(file, aside(file, 1))?;
                out = OpenOptions::new().write(true).create(true).truncate(true).open(file)?;
                offset = 0;
            }
            let place = pipe::Place { file: &out, number: 0, offset };
            match mover.move_to_file(0, read.as_handle(), place, LARGE) {
                Ok(0) => break 'all,
                Ok(n) => offset += n as u64,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
    }
    let cpu = cpu_of_this_thread()? - before;
    writer.join().map_err(|_| io::Error::other("the writer panicked"))??;
    Ok((began.elapsed().as_secs_f64(), cpu))
}

fn aside(file: &Path, n: u32) -> PathBuf {
    PathBuf::from(format!("{}.{n}", file.display()))
}

fn run_hub(file: &Path, bytes: u64) -> io::Result<Cost> {
    for n in 1..=KEEP {
        let _ = fs::remove_file(aside(file, n));
    }
    let _ = fs::remove_file(file);
    let (read, write) = pipe::pipe()?;
    let told = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&told);
    let hub = LogHub::start(&file.with_extension("runs"), move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    })?;
    let spec = LogSpec { file: file.to_owned(), error_file: None, rotate_size: ROTATE, keep: KEEP };
    hub.open(1, "flood".to_owned(), spec, read, None);
    let began = Instant::now();
    flood(write, bytes).join().map_err(|_| io::Error::other("the writer panicked"))??;
    hub.flush(1).blocking_recv().map_err(io::Error::other)?;
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(told.load(Ordering::Relaxed), 0, "the log path complained");
    Ok((seconds, cpu_of_thread("log")?))
}

fn cpu_of_this_thread() -> io::Result<f64> {
    cpu(Path::new("/proc/thread-self/schedstat"))
}

fn cpu_of_thread(name: &str) -> io::Result<f64> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == name {
            return cpu(&task.join("schedstat"));
        }
    }
    Err(io::Error::other("there is no such thread"))
}

fn cpu(schedstat: &Path) -> io::Result<f64> {
    let text = fs::read_to_string(schedstat)?;
    let nanos: f64 =
        text.split(' ').next().and_then(|n| n.parse().ok()).ok_or_else(|| io::Error::other(text.clone()))?;
    Ok(nanos / 1e9)
}
