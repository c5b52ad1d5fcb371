//! A program for Windows with the habits that a guarded program may have, and the tests' hands inside Wine. See `HELP`.

mod system;

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio, exit};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

const HELP: &str = "winchild HABIT [ARGUMENT…] [--OPTION VALUE]…

hang                      wait for ever
ignore-ctrl               the same, and Ctrl+C and Ctrl+Break do nothing
trap-ctrl CODE            at Ctrl+C or Ctrl+Break say `bye` and exit with CODE; --after MS: only then
exit CODE                 --after MS
crash                     end by an access violation
say TEXT…                 one line an argument, then wait
grandchildren FILE        start one that starts another, in groups of their own, which append `PID` to FILE; then wait; --exit CODE
record FILE               append `PID` to FILE, then wait
hold-pipe                 leave a process that holds stdout, then exit with 0
flood BYTES               numbered lines of 120 bytes, then wait; --exit CODE
leak BYTES                take so much memory, then wait; --every MS: 1 MiB as often; --gate FILE: not before it is there
spin                      use all of a processor; --gate FILE
fill-handles COUNT        open so many files, then wait; --gate FILE
tick FILE                 every 20 ms one line to stdout and `PID N` to FILE; --every MS
work FOLDER               what the killing tests run: see there; --bursts N --lines N --every MS
print-args [TEXT…]        one line an argument, `[TEXT]`, and the working folder; then wait
print-processors          those that this process and one that it starts may run on, as bits, then wait
print-env                 the environment, sorted, then wait
encodings                 a line in UTF-8, one in code page 850, one in UTF-16; then wait
http PORT                 answer GET /; /ready is 503 until --gate FILE is there; tell what else is asked: POST /quit: exit with 7,
                          /drop: the same without an answer, /no: 500, /hang: never answer
exists FILE               exit with 0 if it is there, else 1
touch FILE                make it, and exit with 0
take FILE                 what stands in its input, as FILE once it is whole
until FILE CODE           exit with CODE when it is there
late-line FILE TEXT       say `starting`, and TEXT when FILE is there; then wait
kill PID                  TerminateProcess
suspend PID               NtSuspendProcess
trust FILE                take the authority in it, in DER, into the store ROOT
beat                      a heartbeat every 50 ms, where keepwell says; each that is delivered is a line; none while `mute` is there
control SERVICE NUMBER    tells a service what sc has no word for; exits with the error
bridge FILE PIPE          a TCP port, whose number FILE then has, to a named pipe";

fn main() {
    let mut args = Args::new();
    // In the place of Wine's PowerShell, which does nothing.
    let own = env::current_exe().unwrap_or_default();
    let habit = if own.file_name().is_some_and(|n| n.eq_ignore_ascii_case("powershell.exe")) {
        "print-args".to_owned()
    } else {
        args.next("HABIT")
    };
    match habit.as_str() {
        "hang" => wait(),
        "ignore-ctrl" => {
            system::ignore_ctrl();
            out(b"nothing moves me\n");
            wait();
        }
        "trap-ctrl" => trap_ctrl(&mut args),
        "exit" => {
            args.pause("after");
            exit(args.number("CODE"));
        }
        "crash" => system::crash(),
        "say" => {
            args.rest().iter().for_each(|line| out(format!("{line}\n").as_bytes()));
            wait();
        }
        "grandchildren" => grandchildren(&mut args),
        "beat" => beat(),
        "record" => {
            append(&args.next("FILE"), &format!("{}\n", std::process::id()));
            wait();
        }
        "hold-pipe" => {
            let me = env::current_exe().expect("a program knows its own file");
            Command::new(me).arg("hang").stdin(Stdio::null()).spawn().expect("it can be started");
            exit(0);
        }
        "flood" => flood(&mut args),
        "leak" => leak(&mut args),
        "spin" => {
            args.wait_for_gate();
            out(b"spinning\n");
            loop {
                std::hint::spin_loop();
            }
        }
        "fill-handles" => {
            let count: usize = args.number("COUNT");
            args.wait_for_gate();
            let own = env::current_exe().expect("a program knows its own file");
            let held: Vec<File> = (0..count).map_while(|_| File::open(&own).ok()).collect();
            out(format!("holding {} handles\n", held.len()).as_bytes());
            wait();
        }
        "tick" => tick(&mut args),
        "work" => work(&mut args),
        "print-args" => {
            args.rest().iter().for_each(|arg| out(format!("[{arg}]\n").as_bytes()));
            let folder = env::current_dir().expect("there is one");
            out(format!("in {}\nend of arguments\n", folder.display()).as_bytes());
            wait();
        }
        "print-processors" => {
            out(format!("processors {:#x}\n", system::processors()).as_bytes());
            if args.rest().is_empty() {
                let me = env::current_exe().expect("a program knows its own file");
                Command::new(me)
                    .args(["print-processors", "last"])
                    .stdin(Stdio::null())
                    .spawn()
                    .expect("it can be started");
            }
            wait();
        }
        "print-env" => {
            let mut all: Vec<_> = env::vars().map(|(k, v)| format!("{k}={v}\n")).collect();
            all.sort();
            out(all.concat().as_bytes());
            out(b"end of environment\n");
            wait();
        }
        "encodings" => {
            out("Grüße, 世界\r\n".as_bytes());
            out(b"Gr\x81\xe1e\r\n");
            out(&"wide\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
            out(b"end of encodings\r\n");
            wait();
        }
        "http" => http(&mut args),
        "exists" => exit(i32::from(!fs::exists(args.next("FILE")).unwrap_or(false))),
        "touch" => fs::write(args.next("FILE"), "").expect("the file can be made"),
        "take" => {
            let file = args.next("FILE");
            let mut all = Vec::new();
            std::io::stdin().read_to_end(&mut all).expect("it has an input");
            let whole = format!("{file}.new");
            fs::write(&whole, all).expect("the file can be written");
            fs::rename(whole, file).expect("the file can be written");
        }
        "until" => {
            let (gate, code) = (args.next("FILE"), args.number("CODE"));
            while !fs::exists(&gate).unwrap_or(false) {
                sleep(ms(20));
            }
            exit(code);
        }
        "late-line" => {
            out(b"starting\n");
            let (gate, text) = (args.next("FILE"), args.next("TEXT"));
            while !fs::exists(&gate).unwrap_or(false) {
                sleep(ms(20));
            }
            out(format!("{text}\n").as_bytes());
            wait();
        }
        "suspend" => exit(i32::from(!system::suspend(args.number("PID")))),
        "trust" => {
            exit(i32::from(!system::trust(&fs::read(args.next("FILE")).expect("the file can be read"))))
        }
        "kill" => exit(i32::from(!system::terminate(args.number("PID")))),
        "control" => exit(system::control(&args.next("SERVICE"), args.number("NUMBER"))),
        "bridge" => bridge(&mut args),
        other => fail(&format!("no such habit: {other}")),
    }
}

fn wait() -> ! {
    loop {
        sleep(Duration::from_secs(3600));
    }
}

fn fail(why: &str) -> ! {
    eprintln!("winchild: {why}\n\n{HELP}");
    exit(98)
}

/// Writes all, without a buffer; whoever cannot be written to any more is of no interest.
fn out(bytes: &[u8]) {
    // By the handle: the standard library's stdout takes no bytes that are not UTF-8 where a console may be.
    let mut stdout = system::stdout();
    let _ = stdout.write_all(bytes);
}

/// One write, so that lines of several processes never mix.
fn append(file: &str, line: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(file).expect("the file can be written");
    file.write_all(line.as_bytes()).expect("the file can be written");
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn trap_ctrl(args: &mut Args) {
    system::catch_ctrl();
    out(b"waiting for Ctrl\n");
    let (code, after) = (args.number("CODE"), args.option("after"));
    while !system::caught_ctrl() {
        sleep(ms(5));
    }
    sleep(ms(after.unwrap_or(0)));
    out(b"bye\n");
    exit(code);
}

fn grandchildren(args: &mut Args) {
    let file = args.next("FILE");
    let deeper = args.option("deeper").unwrap_or(1);
    let me = env::current_exe().expect("a program knows its own file");
    let mut child = Command::new(me);
    if deeper > 0 {
        child.args(["grandchildren", &file, "--deeper", &(deeper - 1).to_string()]);
    } else {
        child.args(["record", &file]);
        append(&file, &format!("{}\n", std::process::id()));
    }
    system::own_group(&mut child);
    child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().expect("it can be started");
    if let Some(code) = args.option("exit") {
        let begun = Instant::now();
        while fs::read_to_string(&file).unwrap_or_default().lines().count() < 2 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no grandchild");
            sleep(ms(10));
        }
        exit(i32::try_from(code).unwrap_or(1));
    }
    let _ = child.wait();
    wait();
}

fn flood(args: &mut Args) {
    let (bytes, code): (u64, _) = (args.number("BYTES"), args.option("exit"));
    let mut stdout = BufWriter::with_capacity(1 << 16, system::stdout());
    for n in 0..bytes / 120 {
        let _ = writeln!(stdout, "{n:012} {}", "x".repeat(106));
    }
    let _ = stdout.flush();
    match code {
        Some(code) => exit(i32::try_from(code).unwrap_or(1)),
        None => wait(),
    }
}

fn leak(args: &mut Args) {
    let (bytes, every): (usize, _) = (args.number("BYTES"), args.option("every"));
    args.wait_for_gate();
    let mut held = Vec::new();
    for _ in 0..bytes >> 20 {
        held.push(vec![1_u8; 1 << 20]);
        every.into_iter().for_each(|every| sleep(ms(every)));
    }
    out(format!("holding {} MiB\n", held.len()).as_bytes());
    wait();
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

/// One run of a service under load: takes the folder's lock (a second living one is told as `double`), writes bursts of
/// numbered lines where its predecessor left off, and exits with a code that its number gives. FOLDER/runs has one line
/// for every begin (`begin PID`) and end (`end PID CODE`), FOLDER/next the number of the next line of output.
fn work(args: &mut Args) {
    let folder = args.next("FOLDER");
    let bursts = args.option("bursts").unwrap_or(200);
    let (lines, every) = (args.option("lines").unwrap_or(1), args.option("every").unwrap_or(5));
    let (pid, path) = (std::process::id(), |name: &str| format!("{folder}/{name}"));
    system::catch_ctrl();
    let lock = File::create(path("lock")).expect("the folder can be written");
    if lock.try_lock().is_err() {
        append(&path("runs"), &format!("double {pid}\n"));
    }
    append(&path("runs"), &format!("begin {pid}\n"));
    let runs = fs::read_to_string(path("runs")).expect("the runs can be read");
    let number = runs.lines().filter(|l| l.starts_with("begin")).count();
    let mut next: u64 = fs::read_to_string(path("next")).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    for _ in 0..bursts {
        if system::caught_ctrl() {
            break;
        }
        let burst = (next..next + lines).map(|n| format!("line {n} of run {number} of {folder}\n"));
        out(burst.collect::<String>().as_bytes());
        next += lines;
        sleep(ms(every));
    }
    fs::write(path("next"), next.to_string()).expect("the folder can be written");
    let code = if system::caught_ctrl() { 0 } else { 1 + i32::try_from(number).unwrap_or(0) % 60 };
    append(&path("runs"), &format!("end {pid} {code}\n"));
    exit(code);
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
    out(format!("listening on {port}\n").as_bytes());
    let mut silent = Vec::new();
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let _ = stream.set_read_timeout(Some(ms(1000)));
        let mut head = [0; 4096];
        let n = stream.read(&mut head).unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..n]);
        let line = head.split(" HTTP/").next().unwrap_or_default().to_owned();
        let path = line.split(['?', ' ']).nth(1).unwrap_or_default();
        if !line.is_empty() && !line.starts_with("GET ") {
            out(format!("{line}\n").as_bytes());
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

/// Each connection carries one request, which ends with its head.
fn bridge(args: &mut Args) {
    let (file, pipe) = (args.next("FILE"), args.next("PIPE"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let whole = format!("{file}.new");
    fs::write(&whole, port.to_string()).expect("the file can be written");
    fs::rename(whole, &file).expect("the file can be written");
    for stream in listener.incoming().flatten() {
        let pipe = pipe.clone();
        thread::spawn(move || carry(stream, &pipe));
    }
}

fn carry(mut stream: TcpStream, pipe: &str) -> Option<()> {
    /// All instances of a pipe may be busy.
    const BUSY: i32 = 231;
    let begun = Instant::now();
    let mut server = loop {
        match File::options().read(true).write(true).open(pipe) {
            Ok(server) => break server,
            Err(e) if e.raw_os_error() == Some(BUSY) && begun.elapsed() < Duration::from_secs(3) => {
                sleep(ms(5))
            }
            Err(_) => return None,
        }
    };
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        let n = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
        request.extend_from_slice(&piece[..n]);
    }
    server.write_all(&request).ok()?;
    // The end of a pipe is an error here and there; the answer says itself how long it is.
    let mut piece = vec![0; 1 << 16];
    while let Ok(n @ 1..) = server.read(&mut piece) {
        stream.write_all(&piece[..n]).ok()?;
    }
    Some(())
}

/// Plain arguments in order, and options by name.
struct Args {
    plain: Vec<String>,
    options: Vec<(String, String)>,
}

impl Args {
    fn new() -> Args {
        let mut found = Args { plain: Vec::new(), options: Vec::new() };
        let mut all = env::args().skip(1).peekable();
        // What is only to be shown is taken as it is.
        let plain = all.peek().is_some_and(|habit| habit == "print-args");
        while let Some(arg) = all.next() {
            match arg.strip_prefix("--").filter(|_| !plain) {
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
            sleep(ms(20));
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

fn beat() {
    let Some(mut guardian) = keepwell_sdk::heartbeat::Client::from_env() else {
        out(b"nobody waits for beats\n");
        wait()
    };
    loop {
        if !std::path::Path::new("mute").exists() {
            match guardian.beat() {
                Ok(delivery) => out(format!("{delivery:?}\n").as_bytes()),
                Err(refused) => out(format!("{refused}\n").as_bytes()),
            }
        }
        sleep(Duration::from_millis(50));
    }
}
