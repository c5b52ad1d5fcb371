//! One line out of a program and its arguments, as CommandLineToArgvW and the C library take it apart again; and for
//! batch files as cmd.exe reads it, which knows other rules.

use std::path::{Path, PathBuf};

use super::super::program;

/// Longer lines are refused by the system.
const LONGEST: usize = 32_766;

/// The program to load and its line, with a zero at its end. `None`: what is asked for cannot be said: no argument at all, a
/// line that is too long, or what no batch file could be given safely. `raw`: the line as its writer wants it.
pub(super) fn line(file: &Path, arguments: &[&str], raw: Option<&str>) -> Option<(PathBuf, Vec<u16>)> {
    let extension = file.extension().unwrap_or_default().to_ascii_lowercase();
    if arguments.is_empty() {
        return None;
    }
    let is_batch = extension == "bat" || extension == "cmd";
    let (program, line) = match raw {
        Some(raw) if is_batch => {
            (program::command_processor(), format!("cmd.exe /e:ON /v:OFF /d /s /c \"{raw}\""))
        }
        Some(raw) => (file.to_owned(), raw.to_owned()),
        None if is_batch => (program::command_processor(), batch(file.to_str()?, arguments.get(1..)?)?),
        None if extension == "ps1" => {
            (program::powershell()?, powershell(file.to_str()?, arguments.get(1..)?))
        }
        None => (file.to_owned(), join(arguments)),
    };
    let line: Vec<u16> = line.encode_utf16().chain([0]).collect();
    (line.len() <= LONGEST).then_some((program, line))
}

/// The line of a program of our own.
pub(super) fn quoted(arguments: &[&str]) -> Vec<u16> {
    join(arguments).encode_utf16().chain([0]).collect()
}

fn join(arguments: &[&str]) -> String {
    let mut line = String::new();
    for (i, argument) in arguments.iter().enumerate() {
        if i > 0 {
            line.push(' ');
        }
        append(argument, i == 0, &mut line);
    }
    line
}

/// What follows `-File` is taken as text. The file was chosen by who wrote the configuration, so a policy that no group policy
/// enforces does not keep it from running.
fn powershell(script: &str, arguments: &[&str]) -> String {
    let own =
        ["powershell.exe", "-NoLogo", "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File"];
    let all: Vec<&str> = own.into_iter().chain([script]).chain(arguments.iter().copied()).collect();
    join(&all)
}

/// Backslashes are themselves unless a quote follows. The first argument knows no escapes at all, and no file's name holds a
/// quote.
fn append(argument: &str, first: bool, line: &mut String) {
    let quote = first || argument.is_empty() || argument.contains([' ', '\t', '\n', '\u{b}', '"']);
    if !quote {
        return line.push_str(argument);
    }
    line.push('"');
    let mut backslashes = 0;
    for c in argument.chars() {
        if c == '"' && !first {
            line.extend(std::iter::repeat_n('\\', backslashes + 1));
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
        if c != '"' || !first {
            line.push(c);
        }
    }
    if !first {
        line.extend(std::iter::repeat_n('\\', backslashes));
    }
    line.push('"');
}

/// cmd.exe reads the line before the batch file does: everything that could mean something to it stands in quotes, and a
/// percent sign is broken up, since it means something even there (CVE-2024-24576).
fn batch(script: &str, arguments: &[&str]) -> Option<String> {
    if script.contains('"') || script.ends_with('\\') || script.contains('%') {
        return None;
    }
    let mut line = format!("cmd.exe /e:ON /v:OFF /d /c \"\"{script}\"");
    for argument in arguments {
        // There is no way to write the end of a line.
        if argument.contains(['\r', '\n']) {
            return None;
        }
        line.push(' ');
        let plain = |c: char| c.is_ascii_alphanumeric() || r"#$*+-./:?@\_".contains(c) || c > '\u{9f}';
        let quote = argument.is_empty() || argument.ends_with('\\') || !argument.chars().all(plain);
        if quote {
            line.push('"');
        }
        let mut backslashes = 0;
        for c in argument.chars() {
            match c {
                '"' => {
                    line.extend(std::iter::repeat_n('\\', backslashes));
                    line.push('"');
                }
                // The empty part of a variable that is always there comes between the sign and what it would name.
                '%' => line.push_str("%%cd:~,"),
                _ => {}
            }
            backslashes = if c == '\\' { backslashes + 1 } else { 0 };
            line.push(c);
        }
        if quote {
            line.extend(std::iter::repeat_n('\\', backslashes));
            line.push('"');
        }
    }
    line.push('"');
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_apart_as_they_were() {
        for (arguments, line) in [
            (&["a", "b c", ""][..], r#""a" "b c" """#),
            (&[r"C:\Program Files\a.exe", "x"], r#""C:\Program Files\a.exe" x"#),
            (&["a", r#"say "hi""#], r#""a" "say \"hi\"""#),
            (&["a", r"end\"], r#""a" end\"#),
            (&["a", r"end of\"], r#""a" "end of\\""#),
            (&["a", r#"\\"x"#], r#""a" "\\\\\"x""#),
            (&["a", "ü\t"], "\"a\" \"ü\t\""),
        ] {
            assert_eq!(join(arguments), line);
        }
    }

    /// What the system makes of a line.
    #[expect(unsafe_code, reason = "the call has no safe form in the standard library")]
    fn taken_apart(line: &str) -> Vec<String> {
        use windows_sys::Win32::Foundation::LocalFree;
        use windows_sys::Win32::UI::Shell::CommandLineToArgvW;
        let wide: Vec<u16> = line.encode_utf16().chain([0]).collect();
        let mut count = 0;
        // SAFETY: the line ends with a zero; what is returned is a list of `count` texts that end with zeroes, in one piece of
        // memory that is freed once.
        unsafe {
            let list = CommandLineToArgvW(wide.as_ptr(), &raw mut count);
            assert!(!list.is_null());
            let text = |at: usize| {
                let word = *list.add(at);
                let length = (0..).take_while(|i| *word.add(*i) != 0).count();
                String::from_utf16(std::slice::from_raw_parts(word, length)).unwrap()
            };
            let words = (0..usize::try_from(count).unwrap()).map(text).collect();
            LocalFree(list.cast());
            words
        }
    }

    #[test]
    fn the_system_takes_arguments_apart_as_they_were() {
        // All short texts of the letters that matter.
        let letters = ['a', ' ', '"', '\\'];
        let texts = (0..4_usize.pow(5)).map(|n| {
            (0..5)
                .map(|place| letters[n / 4_usize.pow(place) % 4])
                .collect::<String>()
                .trim_start()
                .to_owned()
        });
        for text in texts {
            let arguments = ["a.exe", &text, "end"];
            assert_eq!(taken_apart(&join(&arguments)), arguments);
        }
    }

    #[test]
    fn a_string_of_the_configuration_is_split_as_the_system_does() {
        for block in include_str!("../../../../config/tests/command_lines.txt").split("\n\n") {
            let mut lines = block.lines().filter(|l| !l.starts_with('#'));
            let Some(line) = lines.next() else { continue };
            let expected: Vec<&str> =
                lines.map(|l| l.strip_prefix("  [").and_then(|l| l.strip_suffix(']')).unwrap()).collect();
            assert_eq!(taken_apart(line), expected, "{line}");
        }
    }

    #[test]
    fn a_batch_file_gets_its_arguments_and_cmd_nothing_of_them() {
        let line = |arguments: &[&str]| batch(r"C:\my scripts\x.cmd", arguments);
        assert_eq!(
            line(&["a", "b c", "&calc", r#"x" & calc""#]).unwrap(),
            r#"cmd.exe /e:ON /v:OFF /d /c ""C:\my scripts\x.cmd" a "b c" "&calc" "x"" & calc"""""#
        );
        assert_eq!(
            line(&["%PATH%"]).unwrap(),
            r#"cmd.exe /e:ON /v:OFF /d /c ""C:\my scripts\x.cmd" "%%cd:~,%PATH%%cd:~,%"""#
        );
        assert_eq!(line(&["a\nb"]), None);
        assert_eq!(batch(r"C:\100%\x.cmd", &[]), None);
    }

    #[test]
    fn a_raw_line_is_left_alone() {
        let raw = |file: &str, line| {
            let (program, line) = super::line(Path::new(file), &["x"], Some(line)).unwrap();
            (program, String::from_utf16(&line).unwrap())
        };
        let own = r#"a.exe /x"y \" z"#;
        assert_eq!(raw(r"C:\a.exe", own), (r"C:\a.exe".into(), format!("{own}\0")));
        let (program, line) = raw(r"C:\a.cmd", r#""C:\a.cmd" %X%"#);
        assert_eq!(program, program::command_processor());
        assert_eq!(line.trim_end_matches('\0'), r#"cmd.exe /e:ON /v:OFF /d /s /c ""C:\a.cmd" %X%""#);
    }

    #[test]
    fn a_script_is_given_to_powershell() {
        assert_eq!(
            powershell(r"C:\my scripts\x.ps1", &["a b", "$c"]),
            r#""powershell.exe" -NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -File "C:\my scripts\x.ps1" "a b" $c"#
        );
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        assert!(line(Path::new("C:\\a.exe"), &[], None).is_none());
        assert!(line(Path::new("C:\\a.exe"), &["a", &"x".repeat(40_000)], None).is_none());
        let (program, _) = line(Path::new("C:\\a.BAT"), &["a"], None).unwrap();
        assert!(program.to_str().unwrap().to_lowercase().ends_with("cmd.exe"));
    }
}
