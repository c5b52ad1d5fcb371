//! WinSW's XML, of versions 2 and 3 (<https://github.com/winsw/winsw/blob/v3/docs/xml-config-file.md>).

mod log;
mod registration;
mod rest;

use roxmltree::{Document, Node};

use super::draft::{Draft, Hook, Step, duration, written};
use super::reg::Wrong;

/// What WinSW waits for after it has asked a program to stop, in milliseconds.
const STOP: u64 = 15_000;
/// WinSW waits for these without end.
const START_HOOK_TIME: &str = "10m";
const STOP_HOOK_TIME: &str = "60s";

/// What the file says, as far as keepwell knows it. `folder`: the file's, which WinSW calls `%BASE%`; `stem`: its name
/// without the ending.
///
/// # Errors
/// When it is no XML of WinSW's.
pub(super) fn draft(text: &str, folder: &str, stem: &str) -> Result<Draft, Wrong> {
    let document = Document::parse(text).map_err(|e| Wrong {
        line: e.pos().row as usize,
        why: format!("it is no XML that can be read: {}", cause(&e)),
    })?;
    let root = document.root_element();
    if root.tag_name().name() != "service" {
        let why = format!(
            "it is no configuration of WinSW's: its root is <{}>, not <service>",
            root.tag_name().name()
        );
        return Err(wrong(root, why));
    }
    let id = child(root, "id").ok_or_else(|| wrong(root, "<service> has no <id>"))?;
    let mut file = File { draft: Draft::new("WinSW", &id), root, stem: stem.to_owned() };
    file.draft.know("BASE", folder);
    file.draft.know("SERVICE_ID", &id);
    file.draft.know("WINSW_SERVICE_ID", &id);
    // First, since all else may name what it sets.
    file.environment()?;
    file.program()?;
    file.registration()?;
    file.restart()?;
    file.stop()?;
    file.log()?;
    file.hooks();
    file.rest();
    file.draft.close();
    Ok(file.draft)
}

struct File<'a, 'i> {
    draft: Draft,
    root: Node<'a, 'i>,
    stem: String,
}

/// Without the place, which is told by itself.
fn cause(error: &roxmltree::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at ").map_or(text.clone(), |(cause, _)| cause.to_owned())
}

fn wrong(node: Node<'_, '_>, why: impl Into<String>) -> Wrong {
    let at = node.document().text_pos_at(node.range().start);
    Wrong { line: at.row as usize, why: why.into() }
}

/// WinSW tells cases apart, and takes the first of several.
fn element<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    elements(node, name).next()
}

fn elements<'a, 'i>(node: Node<'a, 'i>, name: &str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |n| n.is_element() && n.tag_name().name() == name)
}

/// All text of an element, of what is in it too.
fn inner(node: Node<'_, '_>) -> String {
    let text: String = node.descendants().filter(Node::is_text).filter_map(|n| n.text()).collect();
    text.trim().to_owned()
}

/// Text of the first element of this name; nothing when it is empty.
fn child(node: Node<'_, '_>, name: &str) -> Option<String> {
    element(node, name).map(inner).filter(|t| !t.is_empty())
}

impl<'a, 'i> File<'a, 'i> {
    fn of(&self, name: &str) -> Option<String> {
        child(self.root, name)
    }

    /// A setting that is on or off. In version 2 an empty element means on.
    fn is_on(&self, name: &str) -> Result<bool, Wrong> {
        let Some(node) = element(self.root, name) else { return Ok(false) };
        match inner(node).to_lowercase().as_str() {
            "" | "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(wrong(node, format!("<{name}> is true or false"))),
        }
    }

    /// A length of time, in milliseconds.
    fn time(&self, name: &str) -> Result<Option<u64>, Wrong> {
        let Some(node) = element(self.root, name) else { return Ok(None) };
        time(node, &inner(node), &format!("<{name}>")).map(Some)
    }

    fn environment(&mut self) -> Result<(), Wrong> {
        for env in elements(self.root, "env") {
            let name = env.attribute("name").ok_or_else(|| wrong(env, "<env> has no name"))?;
            let value = env
                .attribute("value")
                .ok_or_else(|| wrong(env, format!("<env name=\"{name}\"> has no value")))?;
            let value = self.draft.filled_for(value, Some(name));
            self.draft.variable(name, value);
        }
        Ok(())
    }

    /// Arguments in one line: version 2 knew one element for each, too.
    fn arguments(&self, whole: &[&str], each: &str) -> String {
        let line = whole.iter().find_map(|name| self.of(name)).unwrap_or_default();
        let words = elements(self.root, each).map(inner);
        std::iter::once(line).chain(words).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn program(&mut self) -> Result<(), Wrong> {
        let program =
            self.of("executable").ok_or_else(|| wrong(self.root, "<service> has no <executable>"))?;
        let line = match self.arguments(&["startarguments"], "startargument") {
            line if line.is_empty() => self.arguments(&["arguments"], "argument"),
            line => line,
        };
        // The element may have several lines.
        let line = one_line(&line);
        self.draft.warn_of_secrets("arguments", &line);
        self.draft.command = self.draft.words(&program, &line);
        self.draft.keep_line("arguments", &program, &line);
        let folder = self.of("workingdirectory").unwrap_or_else(|| "%BASE%".to_owned());
        let folder = self.draft.filled(&folder);
        self.draft.keys.push(("cwd", written(&folder)));
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Wrong> {
        let mut delays = Vec::new();
        let (mut reboots, mut stays, mut first) = (false, false, None);
        for node in elements(self.root, "onfailure") {
            let action = node.attribute("action").ok_or_else(|| wrong(node, "<onfailure> has no action"))?;
            first = first.or(Some(action));
            match action {
                "restart" => {
                    let delay = node.attribute("delay").unwrap_or("0");
                    delays.push(time(node, delay, "the delay of <onfailure>")?);
                }
                "reboot" => reboots = true,
                "none" => stays = true,
                _ => {
                    return Err(wrong(
                        node,
                        format!("`{action}` is no action of <onfailure>: restart, reboot or none"),
                    ));
                }
            }
        }
        let reset = self.time("resetfailure")?;
        // Without it, a program that ends stays down; an end with 0 is none of Windows' failures.
        let policy = if delays.is_empty() { "never" } else { "on-failure" };
        self.draft.restart.push(("policy", format!("\"{policy}\"")));
        if let Some((delay, longest)) = delays.first().zip(delays.iter().max()) {
            self.draft.restart.push(("delay", duration(*delay)));
            if delays.len() > 1 && longest > delay {
                self.draft.restart.push(("max_delay", duration(*longest)));
            }
            let why = "the first crash after a healthy spell restarts at once; the delay counts from the second on and doubles \
                       up to restart.max_delay";
            if *longest > 0 {
                self.draft.differs("onfailure", why);
            }
        }
        if reboots {
            let why = "keepwell restarts no host; restart.on_crash_loop = \"give_up\" and a monitor of `keepwell status --check` \
                       tell somebody";
            self.draft.lose("onfailure action=\"reboot\"", why);
        }
        if stays && !delays.is_empty() {
            let why = "after so many failures WinSW left the service down: restart.limit says how many are too many, and \
                       restart.on_crash_loop = \"give_up\" leaves it then";
            self.draft.lose("onfailure action=\"none\"", why);
        }
        if first.is_some_and(|f| f != "restart") && !delays.is_empty() {
            self.draft.differs("onfailure", "the first failure is followed by a restart already");
        }
        if reset.is_some() {
            let why = "the count of restarts begins anew after restart.reset_after (60 s) in health; a longer time would only make \
                       restarts slower";
            self.draft.lose("resetfailure", why);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Wrong> {
        let wait_ms = self.time("stoptimeout")?.unwrap_or(STOP);
        // A program has a console or windows, and a step that reaches nobody takes no time.
        let step = |signal, to| Step { signal, wait_ms, to };
        self.draft.stop = Some(vec![step("INT", "main"), step("CLOSE", "tree")]);
        let line = self.arguments(&["stoparguments"], "stopargument");
        let program =
            self.of("stopexecutable").or_else(|| (!line.is_empty()).then(|| self.of("executable")).flatten());
        if let Some(program) = program {
            self.draft.warn_of_secrets("stoparguments", &line);
            let command = self.draft.words(&program, &line);
            self.draft.hooks.push(Hook { key: "pre_stop", command, timeout: STOP_HOOK_TIME });
            let why = "it runs before the first step of the stop, which comes as soon as it has ended: let it return only when \
                       the program is gone, or on its way";
            self.draft.differs("stopexecutable", why);
        }
        if self.is_on("stopparentprocessfirst")? {
            self.draft.differs(
                "stopparentprocessfirst",
                "the main process is asked first; what is left of its tree is ended after that",
            );
        }
        Ok(())
    }

    fn hooks(&mut self) {
        let all = [
            ("prestart", "pre_start", START_HOOK_TIME),
            ("poststart", "post_start", START_HOOK_TIME),
            ("prestop", "pre_stop", STOP_HOOK_TIME),
            ("poststop", "post_stop", STOP_HOOK_TIME),
        ];
        for (name, key, timeout) in all {
            let Some(node) = element(self.root, name) else { continue };
            let Some(program) = child(node, "executable") else { continue };
            let line = child(node, "arguments").unwrap_or_default();
            self.draft.warn_of_secrets(name, &line);
            if ["stdoutPath", "stderrPath"].iter().any(|p| element(node, p).is_some()) {
                let why = "what a hook writes goes into the log of the service";
                self.draft.lose(format!("{name}/stdoutPath, stderrPath"), why);
            }
            if self.draft.hooks.iter().any(|h| h.key == key) {
                let why = "the stop command has this place; write a script that does both";
                self.draft.lose(name, why);
                continue;
            }
            let command = self.draft.words(&program, &line);
            self.draft.hooks.push(Hook { key, command, timeout });
            self.draft.differs(name, format!("it is ended after {timeout}; WinSW waited without end"));
        }
    }
}

/// The element of arguments may have several lines: what separates words becomes a blank, what stands in quotes stays.
fn one_line(text: &str) -> String {
    let mut quoted = false;
    let one = |c: char| {
        quoted ^= c == '"';
        if !quoted && c.is_whitespace() { ' ' } else { c }
    };
    text.chars().map(one).collect()
}

/// `15 sec`, `1 min`, `100ms`, `3`: a number and WinSW's words for units; without one, milliseconds.
fn time(node: Node<'_, '_>, text: &str, what: &str) -> Result<u64, Wrong> {
    milliseconds(text).ok_or_else(|| {
        wrong(
            node,
            format!("{what} is a number and one of ms, sec, min, hour, day (or their plurals), not `{text}`"),
        )
    })
}

fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let unit = match text[end..].trim() {
        "" | "ms" => 1,
        "sec" | "secs" => 1000,
        "min" | "mins" => 60_000,
        "hr" | "hrs" | "hour" | "hours" => 3_600_000,
        "day" | "days" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests;
