//! `%NAME%`, which Windows fills in, and `${NAME}`, which keepwell does.

use keepwell_service::manager::command_line::{arguments, quote, split};

use super::draft::{Draft, written};

impl Draft {
    /// A text that Windows would fill in: what the wrapper itself knew is written, the rest comes from the environment.
    pub(super) fn filled(&mut self, text: &str) -> String {
        self.filled_for(text, None)
    }

    /// The same, as the value of a variable, which may name what it had been before.
    pub(super) fn filled_for(&mut self, text: &str, variable: Option<&str>) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('%') {
            out += &plain(before);
            match after.split_once('%') {
                Some((name, after)) if is_name(name) => {
                    out += &self.value(name, variable);
                    rest = after;
                }
                Some(_) | None => {
                    out.push('%');
                    rest = after;
                }
            }
        }
        out + &plain(rest)
    }

    fn value(&mut self, name: &str, variable: Option<&str>) -> String {
        if let Some(value) = self.known(name) {
            return plain(value);
        }
        match variable.filter(|v| v.eq_ignore_ascii_case(name)) {
            Some(own) => format!("${{{own}}}"),
            None => format!("${{{}}}", self.inherited(name)),
        }
    }

    /// A program and the words of a line, each filled in.
    pub(super) fn words(&mut self, program: &str, line: &str) -> Vec<String> {
        std::iter::once(program.to_owned()).chain(arguments(line)).map(|word| self.filled(&word)).collect()
    }

    /// The words of a line that begins with its program.
    pub(super) fn line(&mut self, line: &str) -> Vec<String> {
        split(line).iter().map(|word| self.filled(word)).collect()
    }

    /// Words are quoted anew for the program, which reads them as before; cmd.exe reads the line by rules of its own.
    pub(super) fn keep_line(&mut self, what: &str, program: &str, line: &str) {
        let name = program.rsplit(['\\', '/']).next().unwrap_or_default().to_lowercase();
        let again: Vec<String> = arguments(line).iter().map(|w| quote(w)).collect();
        if !matches!(name.as_str(), "cmd" | "cmd.exe") || again.join(" ") == line.trim() {
            return;
        }
        if [program, line].iter().any(|t| t.contains('%')) {
            let why = "cmd.exe reads quotes by rules of its own: write the line as `command_line`, where no %NAME% is filled in, or as \
                       a script";
            self.differs(what, why);
        } else {
            self.keys.push(("command_line", written(&format!("\"{program}\" {}", line.trim()))));
        }
    }

    /// Whether arguments name a secret. They are copied, since the program needs them, and any user of the host sees them.
    pub(super) fn warn_of_secrets(&mut self, what: &str, line: &str) {
        let named = secret_options(line);
        if !named.is_empty() {
            let why = "it seems to hold a secret, and every user of the host can read a command line; if the program can take \
                       it from a variable or a file, do so, and change the secret";
            self.differs(format!("{what} ({})", named.join(", ")), why);
        }
    }
}

/// Options of a line that name a secret.
pub(crate) fn secret_options(line: &str) -> Vec<String> {
    // What is no option's name may be the secret itself.
    let name = |word: &String| match word.split_once(['=', ':']) {
        Some((name, _)) => Some(name.to_owned()),
        None => word.starts_with(['-', '/']).then(|| word.clone()),
    };
    arguments(line).iter().filter_map(name).filter(|n| is_secret(n)).collect()
}

/// Text that stays as it is.
pub(super) fn plain(text: &str) -> String {
    text.replace('$', "$$")
}

/// `%100 and 5%` is no name.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_()".contains(c))
}

/// Whether a name says that its value is nobody's business.
pub(super) fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 9] = [
        "PASSW",
        "PASSPHRASE",
        "SECRET",
        "TOKEN",
        "CREDENTIAL",
        "APIKEY",
        "API_KEY",
        "PRIVATE_KEY",
        "ACCESS_KEY",
    ];
    let name = name.to_ascii_uppercase().replace('-', "_");
    WORDS.iter().any(|w| name.contains(w))
        || name.ends_with("PWD") && !matches!(name.as_str(), "PWD" | "OLDPWD")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_keepwell() {
        let mut draft = Draft::new("NSSM", "x");
        draft.know("BASE", r"C:\a$b");
        draft.variable("Home", "x".into());
        let filled = draft.filled(r"%base%\%HOME%\%TEMP%\$5 %100 and 5% 9%");
        assert_eq!(filled, r"C:\a$$b\${Home}\${TEMP}\$$5 %100 and 5% 9%");
        assert_eq!(draft.needed().collect::<Vec<_>>(), ["TEMP"]);
        assert_eq!(draft.filled_for(r"C:\x;%PATH%", Some("Path")), r"C:\x;${Path}");
    }

    #[test]
    fn a_line_for_cmd_stays_as_it_is() {
        let keep = |program: &str, line: &str| {
            let mut draft = Draft::new("NSSM", "x");
            draft.keep_line("AppParameters", program, line);
            (draft.keys.pop().map(|(_, value)| value), draft.notes.len())
        };
        let line = r#"/c ""C:\a b\x.cmd" "y" > z""#;
        let kept = r#"'"C:\windows\system32\CMD.EXE" /c ""C:\a b\x.cmd" "y" > z"'"#;
        assert_eq!(keep(r"C:\windows\system32\CMD.EXE", line), (Some(kept.to_owned()), 0));
        assert_eq!(keep("cmd", r"/c C:\x.cmd y"), (None, 0));
        assert_eq!(keep("cmd", r#"/c ""%TEMP%\x.cmd" "y""#), (None, 1));
        assert_eq!(keep("python.exe", line), (None, 0));
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in ["DB_PASSWORD", "pgpasswd", "API-KEY", "GITHUB_TOKEN", "DBPWD", "client_secret"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["PWD", "PORT", "PATH", "KEYBOARD", "MONKEY"] {
            assert!(!is_secret(name), "{name}");
        }
        let mut draft = Draft::new("NSSM", "x");
        draft.warn_of_secrets("AppParameters", "--port 80 --password=hunter2");
        assert_eq!(draft.notes.len(), 1);
        let told = draft.notes[0].told();
        assert!(told.contains("--password") && !told.contains("hunter2"), "{told}");
    }
}
