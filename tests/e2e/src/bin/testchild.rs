//! A program with every bad habit that a guarded program may have, and the means to watch itself. See `HELP`.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::TcpListener;
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

use keepwell_e2e::sys;

const HELP: &str = "testchild HABIT [ARGUMENT…] [--OPTION VALUE]…

hang                      wait for a signal
ignore-term               the same, but TERM, INT and HUP do nothing
trap-term CODE            at TERM, say `bye` and exit with CODE; --after MS: only then
exit CODE                 --after MS
crash-by SIGNAL           end by this signal; --after MS
say TEXT…                 one line an argument, then wait
double-fork FILE          leave a grandchild in a session of its own that writes its pid into FILE, then wait; --exit CODE
hold-pipe FILE            leave a grandchild in a session of its own that holds stdout, then exit with 0
close-stdout              close stdout and stderr, then wait
flood BYTES               numbered lines of 120 bytes, then wait; --exit CODE
no-newline BYTES          BYTES times `x` without a newline, then wait; --exit CODE
invalid-utf8              lines that are no UTF-8, then wait
fork-bomb                 fork as fast as it goes, 4095 processes at most, then wait
leak BYTES                take memory and touch it, then wait; --gate FILE: not before it is there
reserve BYTES             ask for memory and use the first of it, then wait
spin                      use all of a processor; --gate FILE
fill-descriptors          open files until it may not, say so, then wait; --gate FILE
notify TEXT…              send each to NOTIFY_SOCKET, then wait; --after MS; --gate FILE: not before it is there
tick FILE                 every 20 ms one line to stdout and `PID N` to FILE; --every MS
work FOLDER               what the killing tests run: see there
record FILE               append `PID` to FILE, then wait
print-env                 the environment, sorted, then wait
print-fds                 open descriptors, what they are, and parents, then wait
http PORT                 answer GET /; /ready is 503 until --gate FILE is there; tell what else is asked: POST /quit: exit with 7,
                          /drop: the same without an answer, /no: 500, /hang: never answer";

fn main() {
    let mut args = Args::new();
    let habit = args.next("HABIT");
    match habit.as_str() {
        "hang" => wait(),
        "ignore-term" => {
            for signal in [sys::SIGTERM, sys::SIGINT, sys::SIGHUP] {
                sys::ignore(signal);
            }
            println!("nothing moves me");
            wait();
        }
        "trap-term" => trap_term(&mut args),
        "exit" => {
            args.pause("after");
            exit(args.number("CODE"));
        }
        "crash-by" => {
            args.pause("after");
            sys::die_by(args.number("SIGNAL"));
        }
        "say" => {
            args.rest().iter().for_each(|line| println!("{line}"));
            wait();
        }
        "double-fork" => double_fork(&mut args),
        "hold-pipe" => {
            leave_grandchild(&args.next("FILE"));
            exit(0);
        }
        "close-stdout" => {
            println!("last line");
            sys::close(1);
            sys::close(2);
            wait();
        }
        "flood" => flood(&mut args),
        "no-newline" => no_newline(&mut args),
        "invalid-utf8" => {
            let lines: &[&[u8]] =
                &[b"before\n", b"\xff\xfe\xfd\n", b"half \xc3\n", b"\xed\xa0\x80 surrogate\n", b"after\n"];
            lines.iter().for_each(|l| out(l));
            wait();
        }
        "fork-bomb" => fork_bomb(),
        "leak" => leak(&mut args),
        "notify" => {
            args.pause("after");
            args.wait_for_gate();
            let address = env::var("NOTIFY_SOCKET").expect("NOTIFY_SOCKET is set");
            for text in args.rest() {
                sys::send_datagram(&address, text.replace("\\n", "\n").as_bytes())
                    .expect("the socket takes it");
            }
            wait();
        }
        "reserve" => {
            let mut held: Vec<u8> = Vec::with_capacity(args.number("BYTES"));
            held.push(1);
            println!("reserved {}", held.capacity());
            wait();
        }
        "spin" => {
            args.wait_for_gate();
            println!("spinning");
            loop {
                std::hint::spin_loop();
            }
        }
        "fill-descriptors" => fill_descriptors(&args),
        "tick" => tick(&mut args),
        "work" => work(&args.next("FOLDER")),
        "record" => {
            append(&args.next("FILE"), &format!("{}\n", std::process::id()));
            wait();
        }
        "print-env" => {
            let mut all: Vec<_> = env::vars().map(|(k, v)| format!("{k}={v}")).collect();
            all.sort();
            all.iter().for_each(|line| println!("{line}"));
            println!("end of environment");
            wait();
        }
        "print-fds" => print_fds(),
        "http" => http(&mut args),
        other => fail(&format!("no such habit: {other}")),
    }
}

/// Waits until a signal ends it.
fn wait() -> ! {
    loop {
        sys::wait_for_signal();
    }
}

fn fail(why: &str) -> ! {
    eprintln!("testchild: {why}\n\n{HELP}");
    exit(98)
}

/// Writes all, without a buffer; whoever cannot be written to any more is of no interest.
fn out(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// One write, so that lines of several processes never mix.
fn append(file: &str, line: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(file).expect("the file can be written");
    file.write_all(line.as_bytes()).expect("the file can be written");
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn trap_term(args: &mut Args) {
    sys::catch(sys::SIGTERM);
    println!("waiting for TERM");
    let (code, after) = (args.number("CODE"), args.option("after"));
    // A signal between the look and the wait would be missed; the short sleep is interrupted by it, or looks again.
    while sys::caught().is_none() {
        sleep(ms(5));
    }
    sleep(ms(after.unwrap_or(0)));
    println!("bye");
    exit(code);
}

/// Starts this program anew, in a session of its own, by way of a child that ends: nobody waits for it.
fn leave_grandchild(file: &str) {
    if sys::fork().expect("fork").is_none() {
        sys::new_session();
        if sys::fork().expect("fork").is_none() {
            append(file, &format!("{}\n", std::process::id()));
            wait();
        }
        exit(0);
    }
}

fn double_fork(args: &mut Args) {
    leave_grandchild(&args.next("FILE"));
    match args.option("exit") {
        Some(code) => exit(i32::try_from(code).unwrap_or(1)),
        None => wait(),
    }
}

fn flood(args: &mut Args) {
    let (bytes, code): (u64, _) = (args.number("BYTES"), args.option("exit"));
    let mut stdout = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for n in 0..bytes / 120 {
        let _ = writeln!(stdout, "{n:012} {}", "x".repeat(106));
    }
    let _ = stdout.flush();
    end_or_wait(code);
}

fn no_newline(args: &mut Args) {
    let (mut left, code): (usize, _) = (args.number("BYTES"), args.option("exit"));
    let chunk = vec![b'x'; 1 << 16];
    while left > 0 {
        let n = left.min(chunk.len());
        out(&chunk[..n]);
        left -= n;
    }
    end_or_wait(code);
}

fn end_or_wait(code: Option<u64>) {
    match code {
        Some(code) => exit(i32::try_from(code).unwrap_or(1)),
        None => wait(),
    }
}

/// Each process has a child for every generation that is left, so that the sum is bounded even where nothing else is.
fn fork_bomb() {
    println!("boom");
    let mut refused = false;
    let mut generation = 0;
    while generation < 12 {
        match sys::fork() {
            Ok(_) => generation += 1,
            Err(_) if refused => break,
            Err(e) => {
                println!("fork: {e}");
                refused = true;
            }
        }
    }
    wait();
}

fn leak(args: &mut Args) {
    let bytes: usize = args.number("BYTES");
    let every = args.option("every");
    args.wait_for_gate();
    let mut held = Vec::new();
    for _ in 0..bytes >> 20 {
        held.push(vec![1_u8; 1 << 20]);
        every.into_iter().for_each(|every| sleep(ms(every)));
    }
    println!("holding {} MiB", held.len());
    wait();
}

fn fill_descriptors(args: &Args) {
    args.wait_for_gate();
    let mut held = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(e) => {
                println!("no descriptor after {}: {e}", held.len());
                wait();
            }
        }
    }
}

fn tick(args: &mut Args) {
    let (file, every) = (args.next("FILE"), args.option("every").unwrap_or(20));
    let pid = std::process::id();
    for n in 0_u64.. {
        append(&file, &format!("{pid} {n}\n"));
        out(format!("tick {n}\n").as_bytes());
        sleep(ms(every));
    }
}

/// One run of a service under load: takes the folder's lock (a second living one is told as `double`), writes numbered
/// lines where its predecessor left off, and exits with a code that its number gives. FOLDER/runs has one line for every
/// begin (`begin PID`) and end (`end PID CODE`), FOLDER/next the number of the next line of output.
fn work(folder: &str) {
    const LINES: u64 = 20;
    let (pid, path) = (std::process::id(), |name: &str| format!("{folder}/{name}"));
    sys::catch(sys::SIGTERM);
    let lock = File::create(path("lock")).expect("the folder can be written");
    if lock.try_lock().is_err() {
        append(&path("runs"), &format!("double {pid}\n"));
    }
    append(&path("runs"), &format!("begin {pid}\n"));
    let runs = fs::read_to_string(path("runs")).expect("the runs can be read");
    let number = runs.lines().filter(|l| l.starts_with("begin")).count();
    let mut next: u64 = fs::read_to_string(path("next")).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    for _ in 0..LINES {
        if sys::caught().is_some() {
            break;
        }
        out(format!("line {next} of run {number} of {folder}\n").as_bytes());
        next += 1;
        sleep(ms(5));
    }
    fs::write(path("next"), next.to_string()).expect("the folder can be written");
    let code = if sys::caught().is_some() { 0 } else { 1 + i32::try_from(number).unwrap_or(0) % 60 };
    append(&path("runs"), &format!("end {pid} {code}\n"));
    exit(code);
}

fn print_fds() {
    let mut all: Vec<(i32, String)> = Vec::new();
    // The list itself needs a descriptor, which is closed again when the names are read.
    let names: Vec<_> = fs::read_dir("/proc/self/fd").expect("/proc").flatten().map(|e| e.path()).collect();
    for path in names {
        let number = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()).unwrap_or(-1);
        if let Ok(target) = fs::read_link(&path) {
            all.push((number, target.display().to_string()));
        }
    }
    all.sort();
    all.iter().for_each(|(number, target)| println!("fd {number} {target}"));
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    println!("pid {} ppid {} pgid {} session {}", std::process::id(), fields[1], fields[2], fields[3]);
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    for line in
        status.lines().filter(|l| l.starts_with("Sig") || l.starts_with("NoNewPrivs") || l.starts_with("Cap"))
    {
        println!("{}", line.replace('\t', " "));
    }
    println!("end of descriptors");
    wait();
}

fn http(args: &mut Args) {
    let port: u16 = args.number("PORT");
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(e) => {
            eprintln!("cannot listen on port {port}: {e}");
            exit(1);
        }
    };
    println!("listening on {port}");
    let mut silent = Vec::new();
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let _ = stream.set_read_timeout(Some(ms(1000)));
        let mut head = [0; 4096];
        let n = io::Read::read(&mut stream, &mut head).unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..n]);
        let line = head.split(" HTTP/").next().unwrap_or_default().to_owned();
        let path = line.split(['?', ' ']).nth(1).unwrap_or_default();
        if !line.is_empty() && !line.starts_with("GET ") {
            println!("{line}");
        }
        let status = match path {
            "/ready" if !args.gate_is_open() => "503 Service Unavailable",
            "/no" => "500 Internal Server Error",
            "/hang" => {
                silent.push(stream);
                continue;
            }
            "/drop" => exit(7),
            _ => "200 OK",
        };
        let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n");
        if line.starts_with("POST /quit") {
            drop(stream);
            exit(7);
        }
    }
}

/// Plain arguments in order, and options by name.
struct Args {
    plain: Vec<String>,
    options: Vec<(String, String)>,
}

impl Args {
    fn new() -> Args {
        let mut found = Args { plain: Vec::new(), options: Vec::new() };
        let mut all = env::args().skip(1);
        while let Some(arg) = all.next() {
            match arg.strip_prefix("--") {
                Some(name) => {
                    let value = all.next().unwrap_or_else(|| fail(&format!("--{name} needs a value")));
                    found.options.push((name.to_owned(), value));
                }
                None => found.plain.push(arg),
            }
        }
        found
    }

    fn next(&mut self, what: &str) -> String {
        if self.plain.is_empty() {
            fail(&format!("{what} is missing"));
        }
        self.plain.remove(0)
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> T {
        let text = self.next(what);
        text.parse().unwrap_or_else(|_| fail(&format!("{what} is no number: {text}")))
    }

    fn rest(&mut self) -> Vec<String> {
        std::mem::take(&mut self.plain)
    }

    /// Whether the file of `--gate` is there, or none was asked for.
    fn gate_is_open(&self) -> bool {
        self.text("gate").is_none_or(|file| fs::exists(file).unwrap_or(false))
    }

    fn wait_for_gate(&self) {
        while !self.gate_is_open() {
            sleep(ms(10));
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn option(&self, name: &str) -> Option<u64> {
        let value = self.text(name)?;
        Some(value.parse().unwrap_or_else(|_| fail(&format!("--{name} is no number: {value}"))))
    }

    fn pause(&self, name: &str) {
        sleep(ms(self.option(name).unwrap_or(0)));
    }
}
