//! The examples' services under the service control manager in memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use keepwell_service::testing::Scm;
use keepwell_service::{Control, Exit, State};

#[expect(dead_code, reason = "its main function is the program's")]
#[path = "../examples/pause_continue.rs"]
mod pause_continue;
#[expect(dead_code, reason = "its main function is the program's")]
#[path = "../examples/ping.rs"]
mod ping;
#[expect(dead_code, reason = "its main function is the program's")]
#[path = "../examples/tokio_web.rs"]
mod tokio_web;

#[test]
fn ping_counts_as_often_as_its_start_argument_says() {
    let ping = || ping::Ping { every: Duration::from_secs(3600) };
    let started = Scm::new().start("ping", &["1"], ping());
    started.wait_for(State::Running);
    while !started.words().iter().any(|words| words == "3 pings") {
        std::thread::yield_now();
    }
    started.stop().unwrap();
    assert_eq!(started.wait(), Exit::Success);

    let started = Scm::new().start("ping", &["often"], ping());
    started.wait_for(State::Stopped);
    assert_eq!(started.words(), ["ping: invalid digit found in string"]);
    assert_eq!(started.wait(), Exit::Specific(1));
}

#[test]
fn a_worker_pauses_and_continues() {
    let started = Scm::new().start("worker", &[], pause_continue::Worker);
    for _twice in 0..2 {
        started.wait_for(State::Running);
        started.control(Control::Pause).unwrap();
        started.wait_for(State::Paused);
        started.control(Control::Continue).unwrap();
    }
    started.wait_for(State::Running);
    started.stop().unwrap();
    assert_eq!(started.wait(), Exit::Success);
}

#[test]
fn a_web_server_answers_what_is_in_flight_before_it_ends() {
    let (bound, address) = mpsc::channel();
    let web = tokio_web::Web { address: SocketAddr::from(([127, 0, 0, 1], 0)), bound: Some(bound) };
    let started = Scm::new().start("web", &[], web);
    let address = address.recv().unwrap();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        stream
    };
    let answer = |mut stream: TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(answer(ask("/")).ends_with("well\n"));
    let in_flight = ask("/slow");
    // The request is taken when a later one was answered.
    assert!(answer(ask("/")).ends_with("well\n"));
    started.stop().unwrap();
    assert!(answer(in_flight).ends_with("slow and well\n"));
    started.wait_for(State::Stopped);
    assert_eq!(started.words(), Vec::<String>::new());
    assert_eq!(started.wait(), Exit::Success);
    assert!(TcpStream::connect(address).is_err(), "the port is free again");
}
