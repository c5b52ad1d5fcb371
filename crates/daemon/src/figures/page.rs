//! The page in Prometheus's text format 0.0.4, or in OpenMetrics 1.0 for those who ask for it.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use std::fmt::{Display, Write};

use keepwell_core::Wall;
use keepwell_core::event::State;

use super::families::*;
use super::tally::{Answers, BOUNDS, Incidents};
use super::{Figures, OwnFigures, ReceiverFigures, ServiceFigures};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Form {
    /// For `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Text => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes the page. Families without a sample are left out.
#[must_use]
pub fn page(figures: &Figures, form: Form) -> String {
    let mut page = Page { text: String::new(), form, family: None };
    services(&mut page, &figures.services);
    exits(&mut page, figures);
    usage(&mut page, &figures.services);
    probes(&mut page, figures);
    beats(&mut page, &figures.services);
    incidents(&mut page, figures);
    guards(&mut page, &figures.services);
    budgets(&mut page, figures);
    for ((kind, level), n) in &figures.tally.events {
        page.sample(&EVENTS, &[kind, level], n);
    }
    receivers(&mut page, &figures.receivers);
    own(&mut page, &figures.own);
    if form == Form::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

struct Page {
    text: String,
    form: Form,
    /// The one that samples are being written of.
    family: Option<&'static str>,
}

impl Page {
    fn sample(&mut self, family: &Family, labels: &[&dyn Display], value: impl Display) {
        self.begin(family);
        self.line(family.name, family.labels, labels, value);
    }

    /// The two lines before the first sample.
    fn begin(&mut self, family: &Family) {
        if self.family == Some(family.name) {
            return;
        }
        self.family = Some(family.name);
        let name = match (self.form, family.kind) {
            (Form::OpenMetrics, Kind::Counter) => family.name.trim_end_matches("_total"),
            (Form::OpenMetrics, Kind::Gauge | Kind::Histogram) | (Form::Text, _) => family.name,
        };
        // Writing into text cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {}.", family.help);
        let _ = writeln!(self.text, "# TYPE {name} {}", family.kind.name());
    }

    fn line(&mut self, name: &str, names: &[&str], values: &[&dyn Display], value: impl Display) {
        self.text.push_str(name);
        for (at, (label, text)) in names.iter().zip(values).enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            let _ = write!(Escaped(&mut self.text), "{text}");
            self.text.push('"');
        }
        if !names.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn histogram(&mut self, family: &Family, labels: &[&dyn Display; 3], answers: &Answers) {
        self.begin(family);
        let (bucket, names) = (format!("{}_bucket", family.name), ["service", "purpose", "probe", "le"]);
        let [service, purpose, probe] = labels;
        let mut below = 0;
        for (bound, n) in BOUNDS.iter().zip(answers.buckets) {
            below += n;
            self.line(&bucket, &names, &[service, purpose, probe, bound], below);
        }
        self.line(&bucket, &names, &[service, purpose, probe, &"+Inf"], answers.count());
        self.line(&format!("{}_sum", family.name), family.labels, labels, answers.seconds);
        self.line(&format!("{}_count", family.name), family.labels, labels, answers.count());
    }

    /// One sample for each instance that has a value.
    fn each<T: Display>(
        &mut self,
        family: &Family,
        all: &[ServiceFigures],
        value: impl Fn(&ServiceFigures) -> Option<T>,
    ) {
        for s in all {
            if let Some(value) = value(s) {
                self.sample(family, &[&s.id], value);
            }
        }
    }
}

/// Backslash, quote and line feed are escaped in a label's value.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

fn services(page: &mut Page, all: &[ServiceFigures]) {
    for s in all {
        for state in State::ALL {
            page.sample(&STATE, &[&s.id, &state], u8::from(s.state == state));
        }
    }
    page.each(&READY, all, |s| Some(u8::from(s.usable)));
    page.each(&WANTED, all, |s| Some(u8::from(s.wanted)));
    page.each(&SINCE, all, |s| Some(seconds(s.since)));
    page.each(&STARTED, all, |s| s.started.map(seconds));
    page.each(&RESTARTS, all, |s| Some(s.restarts));
}

fn exits(page: &mut Page, figures: &Figures) {
    for (id, exits) in &figures.tally.exits {
        for (exit, n) in exits {
            page.sample(&EXITS, &[id, &exit.class, &exit.code, &exit.expected], n);
        }
    }
}

fn usage(page: &mut Page, all: &[ServiceFigures]) {
    page.each(&CPU, all, |s| s.usage.cpu_usec.map(from_usec));
    page.each(&MEMORY, all, |s| s.usage.memory_bytes);
    page.each(&PROCESSES, all, |s| s.usage.processes);
    page.each(&THREADS, all, |s| s.usage.threads);
    page.each(&DESCRIPTORS, all, |s| s.usage.descriptors);
    page.each(&LOG, all, |s| s.log_bytes);
}

fn probes(page: &mut Page, figures: &Figures) {
    for (p, answers) in &figures.tally.probes {
        page.histogram(&PROBES, &[&p.service, &p.purpose, &p.name], answers);
    }
    for (p, answers) in &figures.tally.probes {
        for (result, n) in [("pass", answers.pass), ("fail", answers.fail), ("unknown", answers.unknown)] {
            page.sample(&RESULTS, &[&p.service, &p.purpose, &p.name, &result], n);
        }
    }
}

fn beats(page: &mut Page, all: &[ServiceFigures]) {
    page.each(&BEAT, all, |s| s.beat_age);
    page.each(&BEAT_ERRORS, all, |s| s.beat_errors);
    for s in all {
        for (name, value) in &s.reported {
            page.sample(&REPORTED, &[&s.id, name], Float(*value));
        }
    }
}

fn incidents(page: &mut Page, figures: &Figures) {
    page.each(&INCIDENT_OPEN, &figures.services, |s| Some(u8::from(s.incident)));
    let mut write = |family: &Family, value: &dyn Fn(&Incidents) -> f64| {
        for (id, all) in &figures.tally.incidents {
            page.sample(family, &[id], value(all));
        }
    };
    write(&INCIDENTS, &|all| all.opened as f64);
    write(&INCIDENTS_CLOSED, &|all| all.closed as f64);
    write(&INCIDENT_SECONDS, &|all| all.seconds);
}

fn guards(page: &mut Page, all: &[ServiceFigures]) {
    for s in all {
        for guard in &s.guards {
            page.sample(&GUARD, &[&s.id, &guard.rule], u8::from(guard.tripped));
        }
    }
    for s in all {
        for guard in &s.guards {
            if let Some(reached) = guard.reached {
                page.sample(&REACHED, &[&s.id, &guard.rule], seconds(reached));
            }
        }
    }
}

fn budgets(page: &mut Page, figures: &Figures) {
    let of = |group: &Option<std::sync::Arc<str>>| match group {
        None => ("host", String::new()),
        Some(group) => ("group", group.to_string()),
    };
    let mut write = |family: &Family, value: &dyn Fn(&keepwell_core::seen::Budget) -> f64| {
        for budget in &figures.budgets {
            let (scope, group) = of(&budget.group);
            page.sample(family, &[&scope, &group], value(budget));
        }
    };
    write(&BUDGET, &|b| f64::from(b.limit.max));
    write(&BUDGET_USED, &|b| b.used as f64);
    write(&BUDGET_WINDOW, &|b| b.limit.window.as_secs_f64());
}

fn receivers(page: &mut Page, all: &[ReceiverFigures]) {
    for r in all {
        page.sample(&NOTIFY_WAITING, &[&r.name], r.waiting);
    }
    for r in all {
        for (result, n) in ["taken", "later", "never"].iter().zip(r.attempts) {
            page.sample(&NOTIFY, &[&r.name, result], n);
        }
    }
    for r in all {
        page.sample(&NOTIFY_LOST, &[&r.name], r.lost);
    }
}

fn own(page: &mut Page, own: &OwnFigures) {
    page.sample(&BUILD, &[&own.version, &own.anchor_version], 1);
    page.sample(&GUARDIAN_STARTED, &[], seconds(own.started));
    page.sample(&ACCEPTED, &[], seconds(own.accepted));
    page.sample(&REBIRTHS, &[], own.rebirths);
    let mut each = |family: &Family, value: &dyn Fn(usize) -> Option<f64>| {
        for (at, (name, _)) in own.processes.iter().enumerate() {
            if let Some(value) = value(at) {
                page.sample(family, &[name], value);
            }
        }
    };
    let count = |n: Option<u64>| n.map(|n| n as f64);
    each(&OWN_CPU, &|at| own.processes[at].1.cpu_usec.map(from_usec));
    each(&OWN_MEMORY, &|at| count(own.processes[at].1.memory_bytes));
    each(&OWN_DESCRIPTORS, &|at| count(own.processes[at].1.descriptors));
    each(&OWN_THREADS, &|at| count(own.processes[at].1.threads));
    let (waiting, refused) = own.traffic;
    page.sample(&QUEUE, &[], waiting);
    page.sample(&REFUSED, &[], refused);
    page.sample(&STORE, &[], own.store_waiting);
    page.sample(&STORE_LOST, &[], own.store_lost);
    page.sample(&LOG_LOST, &[], own.log_lost);
    for ((route, code), n) in &own.requests {
        page.sample(&REQUESTS, &[route, code], n);
    }
}

fn seconds(at: Wall) -> f64 {
    // Milliseconds of this age are exact in a float.
    at.0 as f64 / 1000.0
}

fn from_usec(usec: u64) -> f64 {
    usec as f64 / 1_000_000.0
}

/// A number that a program chose; the format has words of its own for those that are none.
struct Float(f64);

impl Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            n if n.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            n => write!(f, "{n}"),
        }
    }
}
