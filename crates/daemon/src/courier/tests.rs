use std::time::Duration;

use keepwell_config::{NotifyFormat, Secret};
use keepwell_core::Wall;
use keepwell_core::notify::{Answer, Message, Notice, Topic};

use super::{Sender, bodies, judge};
use crate::probe::PostAnswer;

fn notice(topic: Topic, text: &str) -> Notice {
    Notice {
        topic,
        service: "web".into(),
        incident: Some(7),
        at: Wall(1_700_000_000_000),
        text: text.to_owned(),
        repeated: 0,
    }
}

fn message() -> Message {
    let notices = vec![
        notice(Topic::IncidentOpened, "web: incident 7: exit code 3 <after> 1 s & more"),
        Notice { repeated: 2, ..notice(Topic::GaveUp, "web gave up") },
        notice(Topic::IncidentClosed, "web: incident 7 is over"),
    ];
    Message { number: 4, notices, dropped: 1 }
}

fn sender() -> Sender {
    Sender { host: "alpha".into(), guardian: "g".into(), base: "/".into() }
}

#[test]
fn each_receiver_is_told_in_its_own_words() {
    let of = |format| {
        let value: serde_json::Value =
            serde_json::from_str(&bodies::body(format, &message(), &sender())).unwrap();
        serde_json::to_string_pretty(&value).unwrap()
    };
    insta::assert_snapshot!("json", of(NotifyFormat::Json));
    insta::assert_snapshot!("alertmanager", of(NotifyFormat::Alertmanager));
    insta::assert_snapshot!("slack", of(NotifyFormat::Slack));
    insta::assert_snapshot!("wecom", of(NotifyFormat::WeCom));
}

#[test]
fn a_message_that_is_too_long_says_how_much_is_missing() {
    let mut long = message();
    long.notices = (0..100).map(|n| notice(Topic::GaveUp, &format!("s{n} {}", "é".repeat(60)))).collect();
    let body = bodies::body(NotifyFormat::WeCom, &long, &sender());
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    let text = value["text"]["content"].as_str().unwrap();
    assert!(text.len() <= 2_048, "{}", text.len());
    let shown = text.matches("[gave_up]").count();
    assert!(shown > 5 && text.contains(&format!("and {} more", 101 - shown)), "{text}");
}

fn judged(
    format: NotifyFormat,
    status: u16,
    retry_after: Option<u64>,
    body: &str,
) -> (Answer, String, String) {
    let retry_after = retry_after.map(Duration::from_secs);
    let answered = PostAnswer { status, retry_after, body: body.to_owned() };
    judge(format, answered, &Secret::new("https://hooks.example/services/T0/s3cret"))
}

#[test]
fn what_passes_by_itself_is_tried_again_and_what_does_not_is_not() {
    let json = |status, after| judged(NotifyFormat::Json, status, after, "").0;
    assert_eq!(json(204, None), Answer::Taken);
    assert_eq!(json(429, Some(30)), Answer::Later(Some(Duration::from_secs(30))));
    assert_eq!(json(503, None), Answer::Later(None));
    for status in [301, 400, 401, 404, 410] {
        assert_eq!(json(status, None), Answer::Never, "{status}");
    }
    let wecom = |body| judged(NotifyFormat::WeCom, 200, None, body);
    assert_eq!(wecom(r#"{"errcode":0,"errmsg":"ok"}"#).0, Answer::Taken);
    assert_eq!(wecom(r#"{"errcode":45009}"#).0, Answer::Later(Some(Duration::from_secs(60))));
    let (answer, words, _) = wecom(r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#);
    assert_eq!((answer, words.as_str()), (Answer::Never, "status 200, errcode 93000"));
}

#[test]
fn an_answer_that_names_the_address_is_shown_without_it() {
    let (_, words, body) = judged(NotifyFormat::Json, 404, None, "no hook at /services/T0/s3cret here");
    assert!(!words.contains("s3cret") && !body.contains("s3cret"), "{words} {body}");
    assert!(body.contains("no hook at"), "{body}");
}
