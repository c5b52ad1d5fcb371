//! `cargo run --release -p keepwell-config --example speed` prints how long 1,000 services take to be read.

use std::fmt::Write as _;
use std::time::Instant;

use keepwell_config::{Context, Source, load};

#[expect(clippy::unwrap_used, reason = "an example that cannot go on may panic")]
fn main() {
    let mut text = "[defaults]\nrestart = { delay = \"2s\" }\nenv = { TZ = \"UTC\" }\n".to_owned();
    for i in 0..1_000 {
        let _ = write!(
            text,
            "[services.s{i}]\ncommand = [\"python3\", \"-m\", \"http.server\", \"${{PORT}}\"]\nenv = {{ PORT = \"{}\" }}\n\
             ready = {{ http = \"http://127.0.0.1:${{PORT}}/\", period = \"200ms\", timeout = \"10s\" }}\n\
             restart = {{ policy = \"always\", max_delay = \"60s\", limit = {{ max = 5, window = \"60s\" }} }}\n\
             stop = [{{ signal = \"TERM\", wait = \"10s\" }}]\nlog = {{ rotate = {{ size = \"10MB\", keep = 5 }} }}\n",
            10_000 + i
        );
        if i > 0 {
            let _ = writeln!(text, "depends_on = [\"s{}\"]", i / 2);
        }
    }
    let sources = [Source { path: "keepwell.toml".into(), text }];
    let cx = Context { base: "/srv".into(), state_dir: "/state".into(), ..Context::default() };
    let mut times = vec![];
    for _ in 0..20 {
        let start = Instant::now();
        let config = load(&sources, &cx).unwrap();
        times.push(start.elapsed());
        assert_eq!(config.services.len(), 1_000);
    }
    times.sort();
    println!("1,000 services: median {:?}, least {:?}", times[10], times[0]);
}
