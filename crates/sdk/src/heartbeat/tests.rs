use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn vectors(kind: &str) -> Vec<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/heartbeat-vectors.json");
    let all: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let vectors = all[kind].as_array().unwrap().clone();
    assert!(vectors.len() >= 10, "{kind}");
    vectors
}

fn bytes(vector: &Value, key: &str) -> Vec<u8> {
    let hex = vector[key].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn encoded(command: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode(command, payload, &mut frame);
    frame
}

#[test]
fn the_vectors_of_frames_hold_in_both_directions() {
    for vector in vectors("frames") {
        let (payload, frame) = (bytes(&vector, "payload"), bytes(&vector, "frame"));
        let command = u8::try_from(vector["command"].as_u64().unwrap()).unwrap();
        assert_eq!(encoded(command, &payload), frame, "{vector}");
        let expected = Frame { command, payload: payload.into() };
        assert_eq!(decode(&frame), Ok(Some((expected, frame.len()))), "{vector}");
    }
}

#[test]
fn the_vectors_of_broken_frames_are_told_apart() {
    for vector in vectors("broken") {
        let said = match decode(&bytes(&vector, "bytes")) {
            Ok(None) => "incomplete",
            Ok(Some(_)) => "a frame",
            Err(error) => error.code(),
        };
        assert_eq!(said, vector["error"], "{vector}");
    }
}

#[test]
fn the_vectors_of_reports_mean_what_they_say() {
    for vector in vectors("reports") {
        let read = Report::parse(vector["payload"].as_str().unwrap().as_bytes());
        if vector["error"] == true {
            assert!(read.is_err(), "{vector}");
            continue;
        }
        let read = read.unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), vector["report"], "{vector}");
        assert_eq!(Report::parse(&read.to_payload().unwrap()), Ok(read), "{vector}");
    }
}

#[test]
fn a_report_that_is_too_much_is_not_sent() {
    let mut report = Report::default();
    report.metrics.extend((0..=MAX_METRICS).map(|n| (format!("m{n}"), 0.0)));
    assert!(matches!(report.to_payload(), Err(ReportError::Limit(_))));
    let report = Report { status: Some("x".repeat(MAX_PAYLOAD)), ..Report::default() };
    assert!(matches!(report.to_payload(), Err(ReportError::Limit(_))));
    assert_eq!(Report::parse(&[0xFF]), Err(ReportError::NotText));
}

#[test]
fn a_long_status_is_cut_between_characters() {
    let read = Report::parse(format!("status=x{}", "ü".repeat(MAX_STATUS)).as_bytes()).unwrap();
    assert_eq!(read.status.unwrap().len(), MAX_STATUS - 1);
}

#[test]
fn the_longest_payload_goes_through_and_one_byte_more_does_not() {
    let frame = encoded(2, &vec![7; MAX_PAYLOAD]);
    let (read, length) = decode(&frame).unwrap().unwrap();
    assert_eq!((read.payload.len(), length), (MAX_PAYLOAD, HEADER + MAX_PAYLOAD));
    let mut longer = frame;
    longer[3] = 1;
    assert_eq!(decode(&longer), Err(FrameError::Length(65_537)));
}

/// All frames and then the error, if there is one.
fn read_in_pieces(bytes: &[u8], cuts: &[usize]) -> (Vec<(u8, Vec<u8>)>, Option<FrameError>) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in cuts.windows(2) {
        decoder.push(&bytes[piece[0]..piece[1]]);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push((frame.command, frame.payload.into_owned())),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(decoder.waiting() <= HEADER + MAX_PAYLOAD);
    }
    (frames, None)
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut(
        sent in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes: Vec<u8> = sent.iter().flat_map(|(command, payload)| encoded(*command, payload)).collect();
        prop_assert_eq!(read_in_pieces(&bytes, &cuts), (sent, None));
    }

    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        begin in prop::sample::select(vec![vec![], encoded(1, &[]), MAGIC.to_vec(), encoded(2, b"a=1")]),
        noise in prop::collection::vec(any::<u8>(), 0..60),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes = [begin, noise].concat();
        prop_assert_eq!(read_in_pieces(&bytes, &cuts), read_in_pieces(&bytes, &[]));
    }

    #[test]
    fn no_wrong_bit_goes_unseen(
        payload in prop::collection::vec(any::<u8>(), 0..40),
        bit in any::<usize>(),
    ) {
        let right = encoded(2, &payload);
        let mut wrong = right.clone();
        let bit = bit % (wrong.len() * 8);
        wrong[bit / 8] ^= 1 << (bit % 8);
        // The command is not covered by the checksum.
        if bit / 8 != 2 {
            let read = decode(&wrong);
            prop_assert!(!matches!(read, Ok(Some(_))), "{:?}", read);
        }
    }

    #[test]
    fn any_payload_is_a_report_or_an_error(payload in ".{0,80}") {
        if let Ok(report) = Report::parse(payload.as_bytes()) {
            prop_assert_eq!(Report::parse(&report.to_payload().unwrap()), Ok(report));
        }
    }
}

#[test]
fn an_endpoint_is_told_by_its_form() {
    let of = |text: &str| Endpoint::of(text.into());
    assert_eq!(of("/run/keepwell/web.beat"), Endpoint::Socket("/run/keepwell/web.beat".into()));
    assert_eq!(of("/run/a:80"), Endpoint::Socket("/run/a:80".into()));
    assert_eq!(of(r"C:\state\web.beat"), Endpoint::Socket(r"C:\state\web.beat".into()));
    assert_eq!(of("web.beat"), Endpoint::Socket("web.beat".into()));
    assert_eq!(of(r"\\.\pipe\keepwell-web"), Endpoint::Pipe(r"\\.\pipe\keepwell-web".into()));
    assert_eq!(of("127.0.0.1:9751"), Endpoint::Tcp("127.0.0.1:9751".into()));
    assert_eq!(of("[::1]:9751"), Endpoint::Tcp("[::1]:9751".into()));
    assert_eq!(of("localhost:99999"), Endpoint::Socket("localhost:99999".into()));
}

/// Waits for what a client says; a test that hangs is worse than one that fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn listener() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = Endpoint::Tcp(listener.local_addr().unwrap().to_string());
    (listener, endpoint)
}

/// Answers as keepwell does, and passes on what comes; `judge` may refuse, or (`None`) hang up instead of an answer.
fn serve(
    listener: TcpListener,
    mut judge: impl FnMut(&Frame) -> Option<u8> + Send + 'static,
) -> Receiver<(u8, Vec<u8>)> {
    let (heard, what) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            converse(stream.unwrap(), &heard, &mut judge);
        }
    });
    what
}

fn converse(
    mut stream: TcpStream,
    heard: &Sender<(u8, Vec<u8>)>,
    judge: &mut impl FnMut(&Frame) -> Option<u8>,
) {
    let (mut decoder, mut piece) = (Decoder::default(), [0; 64]);
    loop {
        while let Some(frame) = decoder.next_frame().unwrap() {
            let _ = heard.send((frame.command, frame.payload.to_vec()));
            let Some(answer) = judge(&frame) else { return };
            if stream.write_all(&encoded(answer, &frame.payload)).is_err() {
                return;
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(n) => decoder.push(&piece[..n]),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that `serve` wants")]
fn yes(frame: &Frame) -> Option<u8> {
    Some(ANSWER | frame.command)
}

/// Tries until what waits has gone.
fn flush(client: &mut Client) {
    let begin = Instant::now();
    while client.flush().unwrap() == Delivery::Queued {
        assert!(begin.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_a_program_says_arrives_as_the_frames_of_the_protocol() {
    let (listener, endpoint) = listener();
    let heard = serve(listener, yes);
    let mut client = Client::new(endpoint, Some("secret".into())).timeout(PATIENCE);
    for delivery in [
        client.beat(),
        client.ready(),
        client.extend_timeout(Duration::from_secs(90)),
        client.status("serving"),
        client.stopping(),
    ] {
        assert_eq!(delivery, Ok(Delivery::Delivered));
    }
    let all: Vec<(u8, Vec<u8>)> = heard.try_iter().collect();
    let commands: Vec<u8> = all.iter().map(|(command, _)| *command).collect();
    assert_eq!(commands, [0x10, 0x01, 0x11, 0x13, 0x02, 0x12], "over TCP the hello comes first, and once");
    assert_eq!(all[0].1, b"secret");
    assert_eq!(all[3].1, 90_000_u32.to_le_bytes());
    let report = Report::parse(&all[4].1).unwrap();
    assert_eq!((report.status.as_deref(), report.seq), (Some("serving"), Some(1)));
}

#[test]
fn what_was_said_while_nobody_listened_comes_later_once_and_in_order() {
    // Its queue takes connections that nobody accepts: a daemon that is being replaced.
    let (listener, endpoint) = listener();
    let mut client = Client::new(endpoint, None).timeout(Duration::from_millis(20)).queue(3);
    assert_eq!(client.beat(), Ok(Delivery::Queued));
    for number in 1..=5 {
        assert_eq!(client.status(&number.to_string()), Ok(Delivery::Queued));
    }
    assert_eq!((client.waiting(), client.forgotten()), (3, 2));
    let heard = serve(listener, yes);
    let mut client = client.timeout(PATIENCE);
    flush(&mut client);
    let reports = heard.try_iter().filter(|(command, _)| *command == 2);
    let mut last = 0;
    let mut taken = Vec::new();
    for report in reports.map(|(_, payload)| Report::parse(&payload).unwrap()) {
        // As the receiver does it.
        if report.seq > Some(last) {
            last = report.seq.unwrap();
            taken.push(report.status.unwrap());
        }
    }
    assert!(taken.ends_with(&["3".into(), "4".into(), "5".into()]), "{taken:?}");
}

#[test]
fn a_report_whose_answer_was_lost_is_sent_again_with_its_number() {
    let (listener, endpoint) = listener();
    let mut reports = 0;
    let heard = serve(listener, move |frame| {
        reports += u32::from(frame.command == 2);
        if reports == 1 && frame.command == 2 { None } else { yes(frame) }
    });
    let mut client = Client::new(endpoint, None).timeout(PATIENCE);
    assert_eq!(client.beat(), Ok(Delivery::Delivered));
    assert_eq!(
        client.status("once"),
        Ok(Delivery::Delivered),
        "a connection that breaks is opened again at once"
    );
    let all: Vec<(u8, Vec<u8>)> = heard.try_iter().collect();
    assert_eq!(all.len(), 3);
    assert_eq!(all[1], all[2]);
}

#[test]
fn what_was_refused_is_told_and_not_said_again() {
    let (listener, endpoint) = listener();
    let heard =
        serve(listener, |frame| Some(if frame.command == 2 { REFUSED } else { ANSWER | frame.command }));
    let mut client = Client::new(endpoint, None).timeout(PATIENCE);
    assert!(matches!(client.status("x"), Err(Refused::Answered(_))));
    assert_eq!(client.waiting(), 0);
    assert_eq!(client.beat(), Ok(Delivery::Delivered));
    assert_eq!(heard.try_iter().count(), 2);
}

#[test]
fn without_a_guardian_calls_return_and_nothing_is_lost() {
    let mut client = Client::new(Endpoint::Socket("no/such/socket".into()), None);
    assert_eq!(client.beat(), Ok(Delivery::Queued));
    assert_eq!(client.ready(), Ok(Delivery::Queued));
    assert_eq!(client.ready(), Ok(Delivery::Queued));
    assert_eq!(client.waiting(), 1);
}

#[tokio::test]
async fn the_awaited_client_says_the_same() {
    let (listener, endpoint) = listener();
    let heard = serve(listener, yes);
    let client = AsyncClient::from(Client::new(endpoint, None).timeout(PATIENCE));
    let other = client.clone();
    assert_eq!(client.ready().await, Ok(Delivery::Delivered));
    assert_eq!(other.status("serving").await, Ok(Delivery::Delivered));
    assert_eq!(client.beat().await, Ok(Delivery::Delivered));
    let commands: Vec<u8> = heard.try_iter().map(|(command, _)| command).collect();
    assert_eq!(commands, [0x11, 0x02, 0x01]);
}
