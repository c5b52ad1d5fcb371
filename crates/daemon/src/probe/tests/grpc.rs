//! The health service of gRPC, by a server of our own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// What it says: a message, and what comes behind it.
#[derive(Clone, Copy)]
enum Says {
    Status(u8),
    /// In the head, with no message.
    Code(&'static str),
    /// Whatever follows is the same.
    Endless,
}

async fn health(says: Says) -> SocketAddr {
    serve("127.0.0.1:0", move |stream| async move {
        let answer = service_fn(move |request: Request<Incoming>| async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            assert_eq!(request.headers()["te"], "trailers");
            let asked = request.into_body().collect().await?.to_bytes();
            assert!(matches!(&asked[..], [0, 0, 0, 0, 0] | [0, 0, 0, 0, 4, 10, 2, b'd', b'b']), "{asked:?}");
            let mut response = Response::new(());
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            let frames = match says {
                Says::Status(status) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
                    vec![Frame::data(message), Frame::trailers(trailers)]
                }
                Says::Code(code) => {
                    response.headers_mut().insert("grpc-status", code.parse().unwrap());
                    response.headers_mut().insert("grpc-message", "not today".parse().unwrap());
                    vec![]
                }
                Says::Endless => (0..100).map(|_| Frame::data(Bytes::from(vec![0; 1 << 10]))).collect(),
            };
            Ok::<_, hyper::Error>(response.map(|()| Frames(frames.into())))
        });
        let _ =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
    })
    .await
}

/// A body of what is there already.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

async fn ask(address: SocketAddr, service: &str) -> Outcome {
    let check = Check::grpc(&address.ip().to_string(), address.port(), service.to_owned(), None).unwrap();
    attempt(&check, LONG).await
}

#[test]
fn what_the_health_service_says_decides() {
    run(async {
        for service in ["", "db"] {
            let whom = if service.is_empty() { "the server" } else { "`db`" };
            let address = health(Says::Status(1)).await;
            assert_eq!(ask(address, service).await, Outcome::Pass);
            let address = health(Says::Status(2)).await;
            let words = format!("{address} says that {whom} is NOT_SERVING");
            assert_eq!(failed(&ask(address, service).await), words);
            let address = health(Says::Code("5")).await;
            assert_eq!(failed(&ask(address, service).await), format!("{address} does not know {whom}"));
            let address = health(Says::Status(0)).await;
            assert!(matches!(ask(address, service).await, Outcome::Unknown(_)));
        }
        let address = health(Says::Code("12")).await;
        assert_eq!(failed(&ask(address, "").await), format!("{address} has no health service"));
        let address = health(Says::Code("14")).await;
        assert_eq!(failed(&ask(address, "").await), format!("{address} answered gRPC status 14: not today"));
        let address = health(Says::Endless).await;
        let words = format!("{address} answered more than a health service does");
        assert_eq!(failed(&ask(address, "").await), words);
    });
}

#[test]
fn who_speaks_no_grpc_or_never_answers_fails_in_time() {
    run(async {
        let plain = answering("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        let outcome = ask(plain, "").await;
        assert!(failed(&outcome).contains(&plain.to_string()), "{outcome:?}");
        let silent = serve("127.0.0.1:0", |stream| async move {
            let _held = stream;
            std::future::pending::<()>().await;
        })
        .await;
        let check = Check::grpc("127.0.0.1", silent.port(), String::new(), None).unwrap();
        assert_eq!(failed(&attempt(&check, SHORT).await), format!("no answer from {silent} within 2 s"));
        let (_held, port) = closed_port();
        let check = Check::grpc("127.0.0.1", port, String::new(), None).unwrap();
        let words = format!("connection refused by 127.0.0.1:{port}");
        assert_eq!(failed(&attempt(&check, LONG).await), words);
    });
}
