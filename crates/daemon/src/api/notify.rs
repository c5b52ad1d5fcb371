//! Tries the way to receivers of messages.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::Response;
use keepwell_config::NotifyTo;
use keepwell_core::notify::{Answer, Message as Letter, Notice, Topic};
use keepwell_sdk::wire;
use tokio::task::JoinSet;

use super::Shared;
use super::failure::{Failure, json};
use super::query::body;
use crate::convert;
use crate::courier::{End, deliver};
use crate::message::Message;

/// Sends now and once, whatever else waits; a message that says that nothing has happened is no event.
pub(super) async fn test(state: Shared, bytes: Result<Bytes, BytesRejection>) -> Result<Response, Failure> {
    let wire::NotifyTest { to } = body(bytes)?;
    let (mut receivers, sender) = state.ask(|reply| Message::Receivers { reply }).await?;
    if let Some(name) = &to {
        let known: Vec<String> = receivers.iter().map(|r| r.name.to_string()).collect();
        receivers.retain(|r| *r.name == **name);
        if receivers.is_empty() {
            let hint = match known.is_empty() {
                true => "nobody is told by message: set `notify` in [keepwell]".to_owned(),
                false => format!("receivers: {}", known.join(", ")),
            };
            return Err(Failure::invalid(&format!("there is no receiver `{name}`"), Some(&hint)));
        }
    }
    let notice = Notice {
        topic: Topic::Test,
        service: String::new(),
        incident: None,
        at: keepwell_os::clock::now().wall,
        text: "this is a test: nothing has happened".to_owned(),
        repeated: 0,
    };
    let mut sending = JoinSet::new();
    for (place, to) in receivers.into_iter().enumerate() {
        let (sender, letter) =
            (sender.clone(), Letter { number: 0, notices: vec![notice.clone()], dropped: 0 });
        sending.spawn(async move {
            let delivery = deliver(&to, &letter, &sender, &End::default()).await;
            let kind = match &to.to {
                NotifyTo::Webhook { format, .. } => format.name(),
                NotifyTo::Exec(_) => "exec",
            };
            let answer = wire::NotifyAnswer {
                receiver: to.name.to_string(),
                kind: kind.to_owned(),
                ok: delivery.answer == Answer::Taken,
                answer: delivery.words,
                body: delivery.body,
                took_ms: convert::millis(delivery.took),
            };
            (place, answer)
        });
    }
    let mut answers = sending.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    let answers: Vec<wire::NotifyAnswer> = answers.into_iter().map(|(_, answer)| answer).collect();
    Ok(json(StatusCode::OK, &answers))
}
