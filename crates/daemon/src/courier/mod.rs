//! Brings messages to receivers: by a request or to a program. It tries once when told; what is said to whom and when, and when
//! to try again, is the core's matter. What it says of a failure names no more of an address than its host.

mod bodies;
mod program;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keepwell_config::{NotifyConfig, NotifyFormat, NotifyTo, Secret};
use keepwell_core::notify::{Answer, Message};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::message::{self, EngineHandle};
use crate::probe::{HttpAsk, PostAnswer, TlsFiles, post};

/// Who speaks.
#[derive(Clone, Debug, Default)]
pub struct Sender {
    /// The host's name.
    pub host: String,
    /// The guardian's own.
    pub guardian: String,
    /// Where relative programs and files are looked for.
    pub base: PathBuf,
}

impl Sender {
    /// On this host.
    #[must_use]
    pub fn here(guardian: &str, base: PathBuf) -> Sender {
        let of_linux = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = of_linux.or_else(|| std::env::var("COMPUTERNAME").ok()).unwrap_or_default();
        Sender { host: host.trim().to_owned(), guardian: guardian.to_owned(), base }
    }
}

/// What became of one attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// For the core.
    pub answer: Answer,
    /// What the receiver answered, or why it did not, for people.
    pub words: String,
    /// The beginning of its answer's body.
    pub body: String,
    /// How long that took.
    pub took: Duration,
}

/// Sends in the background, and tells the engine what became of it.
pub struct Courier {
    runtime: Handle,
    engine: EngineHandle,
    sender: Arc<Sender>,
    end: watch::Sender<Option<Instant>>,
}

/// When every attempt has to be over, if that is near.
#[derive(Clone, Debug)]
pub struct End(watch::Receiver<Option<Instant>>);

impl Default for End {
    /// It never is.
    fn default() -> End {
        End(watch::channel(None).1)
    }
}

impl End {
    fn has_come(&self) -> bool {
        self.0.borrow().is_some_and(|at| Instant::now() >= at)
    }

    async fn comes(&self) {
        let at = self.0.clone().wait_for(Option::is_some).await.ok().and_then(|at| *at);
        match at {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }
}

/// What is said of an attempt that had no time.
const ENDS: &str = "keepwell ends, and it did not answer in time";

impl Courier {
    /// Works on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle, engine: EngineHandle, sender: Sender) -> Courier {
        Courier { runtime, engine, sender: Arc::new(sender), end: watch::channel(None).0 }
    }

    /// In whose name it sends.
    #[must_use]
    pub fn sender(&self) -> Arc<Sender> {
        Arc::clone(&self.sender)
    }

    /// From now on no attempt takes longer than this, those that are under way included.
    pub fn hurry(&self, within: Duration) {
        self.end.send_replace(Some(Instant::now() + within));
    }

    /// Attempts that begin from now on have their whole time again.
    pub fn take_time(&self) {
        self.end.send_replace(None);
    }

    /// One attempt; `Message::Delivered` follows.
    pub fn send(&self, to: Arc<NotifyConfig>, message: Message) {
        let (engine, sender) = (self.engine.clone(), Arc::clone(&self.sender));
        let end = End(self.end.subscribe());
        self.runtime.spawn(async move {
            let delivery = deliver(&to, &message, &sender, &end).await;
            let (receiver, number) = (to.name.clone(), message.number);
            engine.deliver(message::Message::Delivered { receiver, number, delivery }).await;
        });
    }
}

/// Tries once.
pub async fn deliver(to: &NotifyConfig, message: &Message, sender: &Arc<Sender>, end: &End) -> Delivery {
    let began = Instant::now();
    let (answer, words, body) = match &to.to {
        NotifyTo::Webhook { url, format, headers, ca } => {
            let text = bodies::body(*format, message, sender);
            let mut all: Vec<(String, Secret)> =
                headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            all.push(("content-type".to_owned(), Secret::new("application/json")));
            let ca = ca.as_deref().map(|ca| sender.base.join(ca));
            let ask = HttpAsk {
                url: url.expose().to_owned(),
                headers: all,
                send: Some(Secret::new(text)),
                tls: TlsFiles { ca, identity: None },
                ..HttpAsk::default()
            };
            let answered = tokio::select! {
                answered = post(ask, to.timeout) => answered,
                () = end.comes() => Err(ENDS.to_owned()),
            };
            match answered {
                Ok(answered) => judge(*format, answered, url),
                Err(why) => (Answer::Later(None), why, String::new()),
            }
        }
        NotifyTo::Exec(words) => {
            let text = bodies::body(NotifyFormat::Json, message, sender);
            let (words, sender, timeout, end) = (words.clone(), Arc::clone(sender), to.timeout, end.clone());
            let run = move || program::run(&words, &sender, text, timeout, &end);
            match tokio::task::spawn_blocking(run).await.unwrap_or_else(|_| Err("it failed".to_owned())) {
                Ok(words) => (Answer::Taken, words, String::new()),
                Err(why) => (Answer::Later(None), why, String::new()),
            }
        }
    };
    Delivery { answer, words, body, took: began.elapsed() }
}

/// What an answer means. `url` is taken out of what is shown.
fn judge(format: NotifyFormat, answered: PostAnswer, url: &Secret) -> (Answer, String, String) {
    let PostAnswer { status, retry_after, body } = answered;
    let path = url.expose().splitn(4, '/').nth(3).filter(|path| path.len() > 3);
    let shown = path.map_or(body.clone(), |path| body.replace(path, "(hidden)"));
    let shown: String = shown.trim().chars().take(300).collect();
    let words = format!("status {status}");
    match status {
        200..=299 => {
            // WeCom answers 200 to everything, and says within what became of it.
            let code =
                serde_json::from_str::<serde_json::Value>(&body).ok().and_then(|b| b["errcode"].as_i64());
            match code.filter(|code| format == NotifyFormat::WeCom && *code != 0) {
                None => (Answer::Taken, words, shown),
                // Too many a minute (45009), and its system is busy (-1).
                Some(code @ (45_009 | -1)) => {
                    let wait = Duration::from_secs(60);
                    (Answer::Later(Some(wait)), format!("{words}, errcode {code}"), shown)
                }
                Some(code) => (Answer::Never, format!("{words}, errcode {code}"), shown),
            }
        }
        // These pass by themselves.
        408 | 425 | 429 | 500..=599 => (Answer::Later(retry_after), words, shown),
        _ => (Answer::Never, words, shown),
    }
}

#[cfg(test)]
mod tests;
