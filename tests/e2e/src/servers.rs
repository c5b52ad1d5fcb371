//! Servers of HTTP that behave badly, once they are told to. They run in the test's process and end with it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// What every server answers while it is well.
pub const WELL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nneedle";

/// A server that is well.
pub struct Server {
    /// Its port of 127.0.0.1.
    pub port: u16,
    ill: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    /// `habit`: what it does with a connection once it is ill.
    pub fn new(habit: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = Server { port, ill: Arc::default(), asked: Arc::default() };
        let (ill, asked, habit) = (Arc::clone(&server.ill), Arc::clone(&server.asked), Arc::new(habit));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                asked.fetch_add(1, Ordering::Relaxed);
                let (ill, habit) = (ill.load(Ordering::Relaxed), Arc::clone(&habit));
                thread::spawn(move || match ill {
                    true => habit(stream),
                    false => {
                        head(&mut stream);
                        let _ = stream.write_all(WELL);
                    }
                });
            }
        });
        server
    }

    /// From now on it does as it is used to.
    pub fn falls_ill(&self) {
        self.ill.store(true, Ordering::Relaxed);
    }

    /// From now on it answers well.
    pub fn recovers(&self) {
        self.ill.store(false, Ordering::Relaxed);
    }

    /// How many connections it has taken.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Takes connections and says nothing.
pub fn silent(stream: TcpStream) {
    hold(stream);
}

/// Each byte of a good answer takes a tenth of a second.
pub fn slow(mut stream: TcpStream) {
    head(&mut stream);
    for byte in WELL {
        thread::sleep(Duration::from_millis(100));
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
    }
}

/// Sends the beginning of an answer, and then nothing, not even an end: as one whose host has lost its power.
pub fn half_open(mut stream: TcpStream) {
    head(&mut stream);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le");
    hold(stream);
}

/// What is not read when it is closed makes a reset of it.
pub fn resetting(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 4]);
}

/// Sends the one who asks to another port.
pub fn redirecting(to: u16) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| {
        head(&mut stream);
        let location = format!("http://127.0.0.1:{to}/");
        let _ = write!(stream, "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    }
}

/// An answer without end.
pub fn endless(mut stream: TcpStream) {
    head(&mut stream);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    let chunk = vec![b'x'; 1 << 20];
    while stream.write_all(&chunk).is_ok() {}
}

/// Until the other end goes away.
fn hold(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Reads what is asked.
fn head(stream: &mut TcpStream) {
    let (mut asked, mut byte) = (Vec::new(), [0]);
    while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        asked.push(byte[0]);
    }
}
