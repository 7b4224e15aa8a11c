//! The colours of every page and plot, by day and by night, so that all of them look
//! alike.

use std::fmt::Write as _;

/// A colour: as CSS writes it on light ground, and on dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// On light ground.
    pub light: &'static str,
    /// On dark ground.
    pub dark: &'static str,
}

const fn colour(light: &'static str, dark: &'static str) -> Colour {
    Colour { light, dark }
}

/// The ground of a page.
pub const PAGE: Colour = colour("#ffffff", "#0f1318");
/// Text on it.
pub const TEXT: Colour = colour("#1f2328", "#e2e7ec");
/// Text that stands back.
pub const DIM: Colour = colour("#59636e", "#9aa5b1");
/// Rules between things.
pub const LINE: Colour = colour("#d8dee4", "#343b44");
/// The ground of a card on the page.
pub const CARD: Colour = colour("#f6f8fa", "#171c23");
/// A warning.
pub const WARN: Colour = colour("#9a6700", "#e3b341");

/// Text and axes in a plot.
pub const INK: Colour = colour("#24292f", "#d7dde4");
/// The grid behind them.
pub const GRID: Colour = LINE;

/// Series, the first the most; each is told from the others by all kinds of eyes.
pub const SERIES: [Colour; 6] = [
    colour("#0b62c4", "#6cb2ff"),
    colour("#b35900", "#ffab61"),
    colour("#1a7f37", "#63d07d"),
    colour("#8b3fc7", "#cf9bff"),
    colour("#bf2c4b", "#ff8ba1"),
    colour("#6a737d", "#a3adb8"),
];

/// What answered.
pub const ANSWERED: Colour = SERIES[0];
/// What is assumed, not seen.
pub const ASSUMED: Colour = SERIES[1];
/// What reached its destination.
pub const REACHED: Colour = SERIES[2];
/// What was lost.
pub const LOST: Colour = SERIES[4];
/// What was silent.
pub const SILENT: Colour = SERIES[5];

/// CSS rules that give variables their values, for a selector such as `:root`.
#[must_use]
pub fn variables(selector: &str, named: &[(&str, Colour)]) -> String {
    let (mut light, mut dark) = (String::new(), String::new());
    for (name, colour) in named {
        let _ = write!(light, "{name}:{};", colour.light);
        let _ = write!(dark, "{name}:{};", colour.dark);
    }
    format!("{selector}{{{light}}}@media(prefers-color-scheme:dark){{{selector}{{{dark}}}}}")
}

/// The variables of a page: ground, text and what stands on it.
#[must_use]
pub fn page() -> String {
    let variables = variables(
        ":root",
        &[
            ("--page", PAGE),
            ("--text", TEXT),
            ("--dim", DIM),
            ("--line", LINE),
            ("--card", CARD),
            ("--warn", WARN),
        ],
    );
    format!(":root{{color-scheme:light dark}}{variables}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let value = u8::from_str_radix(&colour[at..at + 2], 16).unwrap();
            let value = f64::from(value) / 255.0;
            match value <= 0.04045 {
                true => value / 12.92,
                false => ((value + 0.055) / 1.055).powf(2.4),
            }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    /// As the Web Content Accessibility Guidelines define it.
    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn all_can_be_read_on_the_page() {
        for colour in [TEXT, DIM, WARN, INK].iter().chain(&SERIES) {
            for ground in [PAGE, CARD] {
                assert!(contrast(colour.light, ground.light) >= 4.5, "{colour:?}");
                assert!(contrast(colour.dark, ground.dark) >= 4.5, "{colour:?}");
            }
        }
    }
}
