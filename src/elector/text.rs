//! Texts of others, such as identities and complaints: they may be megabytes, and are cut before they are kept, logged or shown.

/// The longest identity: a pod's name, a uuid, and room. What is longer is none of a candidate of ours.
pub(super) const IDENTITY: usize = 512;
/// What is enough of a complaint.
pub(super) const COMPLAINT: usize = 512;

/// The text, or its beginning with its length where that is more than `most` bytes.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}… ({} bytes)", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_how_long_it_was() {
        assert_eq!((cut("", 3), cut("abc", 3)), (String::new(), "abc".to_owned()));
        assert_eq!(cut("aäöü", 4), "aä… (7 bytes)");
        assert!(cut(&"x".repeat(1_400_000), IDENTITY).len() < IDENTITY + 32);
    }
}
