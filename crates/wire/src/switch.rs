//! A switch as people write it in settings: `true`, `no`, `on`, `0`.

/// A text that switches nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name}={text:?} is neither on nor off: write true or false (1 or 0, yes or no, on or off do as well)"
)]
pub struct SwitchError {
    name: &'static str,
    text: String,
}

/// Reads the switch of the setting `name`, in letters of either case.
///
/// # Errors
/// [`SwitchError`] for anything that is not one of the eight words.
pub fn parse_switch(name: &'static str, text: &str) -> Result<bool, SwitchError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(SwitchError { name, text: text.chars().take(64).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_one_of_eight_words() {
        for (text, is_on) in [("true", true), ("Yes", true), (" ON ", true), ("1", true), ("OFF", false)] {
            assert_eq!(parse_switch("ALLOW", text), Ok(is_on), "{text}");
        }
        for text in ["", "2", "maybe", "y", "truefalse"] {
            let error = parse_switch("ALLOW", text).unwrap_err().to_string();
            assert!(error.contains(&format!("ALLOW={text:?}")) && error.contains("true or false"), "{error}");
        }
    }
}
