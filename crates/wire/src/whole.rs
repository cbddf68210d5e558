//! Whole numbers of a request, however they are written: to JSON Schema `900.0` is an integer, and to some languages
//! every number is written so.

use std::fmt;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// Largest whole number below which a floating-point number is exact: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a whole number from 0, or null.
///
/// # Errors
/// Anything else; also a number with a fraction.
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(Whole)
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0, or null")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number from 0 to 2^53 loses nothing"
        )]
        let whole = number as u64;
        if number.fract() == 0.0 && (0.0..=EXACT).contains(&number) {
            Ok(Some(whole))
        } else {
            Err(E::invalid_value(Unexpected::Float(number), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    fn read(text: &str) -> Option<Option<u64>> {
        super::optional(&mut serde_json::Deserializer::from_str(text)).ok()
    }

    #[test]
    fn a_whole_number_is_whole_however_it_is_written() {
        for text in ["900", "900.0", "9e2", "9.0E+2"] {
            assert_eq!(read(text), Some(Some(900)), "{text}");
        }
        assert_eq!((read("null"), read("-0.0")), (Some(None), Some(Some(0))));
        assert_eq!(read("18446744073709551615"), Some(Some(u64::MAX)));
        for text in
            ["900.5", "-1", "-1.0", "1e17", "1e300", "18446744073709551616", "\"900\"", "true", "[900]"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
