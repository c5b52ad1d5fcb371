//! One line for a program and its arguments, as Windows wants it, and back
//! (<https://learn.microsoft.com/cpp/c-language/parsing-c-command-line-arguments>).

/// The program always stands in quotes, so that no shorter path is taken for it (CWE-428).
#[must_use]
pub fn join(program: &str, arguments: &[String]) -> String {
    let mut line = format!("\"{program}\"");
    for argument in arguments {
        line.push(' ');
        line.push_str(&quote(argument));
    }
    line
}

/// One argument, quoted if it has to be, so that `CommandLineToArgvW` gives it back.
#[must_use]
pub fn quote(argument: &str) -> String {
    if !argument.is_empty() && !argument.contains([' ', '\t', '\n', '\u{b}', '"']) {
        return argument.to_owned();
    }
    let mut line = String::from("\"");
    let mut backslashes = 0;
    for c in argument.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => {
                // Those before a quotation mark are doubled, and one more makes it plain text.
                line.extend(std::iter::repeat_n('\\', backslashes * 2 + 1));
                line.push('"');
                backslashes = 0;
            }
            c => {
                line.extend(std::iter::repeat_n('\\', backslashes));
                line.push(c);
                backslashes = 0;
            }
        }
    }
    line.extend(std::iter::repeat_n('\\', backslashes * 2));
    line.push('"');
    line
}

/// The words of a line, as `CommandLineToArgvW` splits it: the first by its own rule, since a program's name holds no
/// quotation mark.
#[must_use]
pub fn split(line: &str) -> Vec<String> {
    let line = line.trim_start_matches([' ', '\t']);
    if line.is_empty() {
        return Vec::new();
    }
    let (program, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
        None => line.split_at(line.find([' ', '\t']).unwrap_or(line.len())),
    };
    let mut words = vec![program.to_owned()];
    words.extend(arguments(rest));
    words
}

/// The words of a line that has no program in front.
#[must_use]
pub fn arguments(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut letters = line.chars().peekable();
    loop {
        while letters.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        if letters.peek().is_none() {
            return words;
        }
        let (mut word, mut quoted) = (String::new(), false);
        loop {
            let mut backslashes = 0;
            while letters.next_if_eq(&'\\').is_some() {
                backslashes += 1;
            }
            if letters.peek() == Some(&'"') {
                word.extend(std::iter::repeat_n('\\', backslashes / 2));
                letters.next();
                if backslashes % 2 == 1 {
                    word.push('"');
                } else if quoted && letters.next_if_eq(&'"').is_some() {
                    // Two in a row within quotes are one.
                    word.push('"');
                } else {
                    quoted = !quoted;
                }
                continue;
            }
            word.extend(std::iter::repeat_n('\\', backslashes));
            match letters.next_if(|c| quoted || !matches!(c, ' ' | '\t')) {
                Some(c) => word.push(c),
                None => break,
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_splits_into_the_same_words() {
        for words in [
            vec!["a"],
            vec!["", " ", "a b", "\t"],
            vec!["say \"hi\"", r"C:\dir\", r"C:\my dir\", r#"\""#, r#"\\""#, r"a\\b", "näme ünï 🦀"],
            vec![r#"""#, r#""""#, r"\", r"\\ "],
        ] {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            let line = join(r"C:\Program Files\k.exe", &words);
            let back = split(&line);
            assert_eq!(
                back.split_first().unwrap(),
                (&r"C:\Program Files\k.exe".to_owned(), words.as_slice()),
                "{line}"
            );
        }
    }

    #[test]
    fn lines_of_others_are_read_as_windows_reads_them() {
        let split = |line| split(line).join("|");
        assert_eq!(
            split(r"C:\Windows\system32\svchost.exe -k netsvcs"),
            r"C:\Windows\system32\svchost.exe|-k|netsvcs"
        );
        assert_eq!(split(r#""C:\a b\c.exe" "d e"f "a""b""#), r#"C:\a b\c.exe|d ef|a"b"#);
        assert_eq!(split(r#"x \\\"y\\ "\\""#), r#"x|\"y\\|\"#);
        assert_eq!(split(""), "");
        assert_eq!(split("\"open"), "open");
    }

    #[test]
    fn the_program_is_always_quoted() {
        assert_eq!(join("/usr/bin/x", &[]), "\"/usr/bin/x\"");
    }
}
