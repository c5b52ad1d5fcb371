//! Errors of the system as people read them.

use std::io;

/// An error without its number, as the end of a sentence: `permission denied`. Windows closes its texts with a full stop, and
/// calls a file that it was given `%1`.
#[must_use]
pub fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text).trim_end_matches('.');
    let text = text.replace("file %1", "file").replace("%1", "the file");
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_capitals_and_full_stops_go() {
        let of = |text: &str| in_words(&io::Error::other(text));
        assert_eq!(of("No such file or directory (os error 2)"), "no such file or directory");
        assert_eq!(of("Access is denied. (os error 5)"), "access is denied");
        assert_eq!(of("HTTP is odd"), "HTTP is odd");
        assert_eq!(of("%1 is not a valid Win32 application."), "the file is not a valid Win32 application");
        assert_eq!(of("The image file %1 is valid"), "the image file is valid");
        let two = in_words(&io::Error::from_raw_os_error(2));
        assert!(two.starts_with(char::is_lowercase) && !two.contains('2') && !two.ends_with('.'), "{two}");
    }
}
