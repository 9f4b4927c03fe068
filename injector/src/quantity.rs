//! Amounts as Kubernetes writes them: `100m`, `1.5`, `64Mi`, `2e3`
//! (`apimachinery/pkg/api/resource/quantity.go`).

use std::fmt;
use std::str::FromStr;

/// A positive amount of something, with the text that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    thousandths: u128,
}

/// Why a text is no [`Quantity`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It is no amount at all.
    #[error("{0:?} is no amount such as 100m, 1.5 or 64Mi")]
    Syntax(String),
    /// It is nothing, or less than a thousandth.
    #[error("{0:?} is too small; the least is 1m")]
    Small(String),
    /// More than there can be (2^63 - 1).
    #[error("{0:?} is too large")]
    Large(String),
}

/// The suffixes with what one of them is in thousandths.
const SUFFIXES: [(&str, u128); 14] = [
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("", 1000),
];

/// Most digits of a number.
const DIGITS: usize = 20;

impl Quantity {
    /// So many thousandths.
    pub fn milli(thousandths: u32) -> Self {
        Self { text: format!("{thousandths}m"), thousandths: thousandths.into() }
    }

    /// So many times 2^20.
    pub fn mebibytes(mebibytes: u32) -> Self {
        Self { text: format!("{mebibytes}Mi"), thousandths: u128::from(mebibytes) * (1000 << 20) }
    }

    /// In thousandths, rounded down.
    pub const fn thousandths(&self) -> u128 {
        self.thousandths
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let short = || text.chars().take(40).collect::<String>();
        let syntax = || QuantityError::Syntax(short());
        let large = || QuantityError::Large(short());
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.contains('.') {
            return Err(syntax());
        }
        if digits.len() > DIGITS {
            return Err(large());
        }
        let digits: u128 = digits.parse().map_err(|_| syntax())?;
        let unit = unit(suffix).ok_or_else(syntax)?;
        let scale = fraction.bytes().fold(1, |scale: u128, _| scale * 10); // 10^20 at most
        let thousandths = digits.checked_mul(unit).ok_or_else(large)? / scale;
        match thousandths {
            0 => Err(QuantityError::Small(short())),
            _ if thousandths / 1000 > i64::MAX as u128 => Err(large()),
            _ => Ok(Self { text: text.to_owned(), thousandths }),
        }
    }
}

/// What one unit of this suffix is in thousandths; an exponent of ten is one as well.
fn unit(suffix: &str) -> Option<u128> {
    if let Some((_, unit)) = SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Some(*unit);
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let exponent: u32 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    (exponent <= 18).then(|| 1000 * 10u128.pow(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_what_they_are() {
        let cases = [
            ("100m", 100),
            ("1", 1000),
            ("1.5", 1500),
            (".5", 500),
            ("5.", 5000),
            ("0.0015k", 1500),
            ("64Mi", 64 * 1024 * 1024 * 1000),
            ("1Ki", 1_024_000),
            ("2e3", 2_000_000),
            ("2E+3", 2_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("7Ei", 7 * (1000 << 60)),
        ];
        for (text, thousandths) in cases {
            let read: Quantity = text.parse().unwrap();
            assert_eq!((read.thousandths(), read.to_string().as_str()), (thousandths, text));
        }
        assert_eq!(Quantity::milli(50), "50m".parse().unwrap());
        assert_eq!(Quantity::mebibytes(32), "32Mi".parse().unwrap());
    }

    #[test]
    fn texts_that_are_none() {
        let syntax = |text: &str| Err(QuantityError::Syntax(text.into()));
        for text in
            ["", ".", "m", "1.2.3", "-1", "+1", "1 m", "1mi", "1K", "1e", "1e-3", "1e19", "ein"]
        {
            assert_eq!(text.parse::<Quantity>(), syntax(text), "{text}");
        }
        for text in ["0", "0.0001", "0Mi", "0.1m"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Small(text.into())), "{text}");
        }
        for text in ["8Ei", "100E", "99999999999999999999Ei", "1.00000000000000000000"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Large(text.into())), "{text}");
        }
    }
}
