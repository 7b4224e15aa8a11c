//! Colours by name: as CSS variables that bring both schemes, or as they are, for who
//! reads no CSS.

use crate::report::palette::{self, Colour};

/// What is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hue {
    /// The ground.
    Page,
    /// The ground of a picture.
    Card,
    /// Text.
    Ink,
    /// Text and lines that stand back.
    Dim,
    /// The grid.
    Grid,
    /// Routers, and links that are there.
    Seen,
    /// The destination.
    Reached,
    /// Lines of which nothing is known.
    Unknown,
    /// What was lost, and lines that are not there.
    Lost,
}

impl Hue {
    /// Every one of them.
    pub const ALL: [Hue; 9] = [
        Hue::Page,
        Hue::Card,
        Hue::Ink,
        Hue::Dim,
        Hue::Grid,
        Hue::Seen,
        Hue::Reached,
        Hue::Unknown,
        Hue::Lost,
    ];

    const fn variable(self) -> (&'static str, Colour) {
        match self {
            Hue::Page => ("--c-page", palette::PAGE),
            Hue::Card => ("--c-card", palette::CARD),
            Hue::Ink => ("--c-ink", palette::INK),
            Hue::Dim => ("--c-dim", palette::DIM),
            Hue::Grid => ("--c-grid", palette::GRID),
            Hue::Seen => ("--c-seen", palette::ANSWERED),
            Hue::Reached => ("--c-reached", palette::REACHED),
            Hue::Unknown => ("--c-unknown", palette::ASSUMED),
            Hue::Lost => ("--c-lost", palette::LOST),
        }
    }
}

/// How colours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// As variables; [`style`] gives them their values.
    Variables,
    /// As they are on light ground.
    Light,
    /// As they are on dark ground.
    Dark,
}

impl Paint {
    /// The colour as an attribute has it.
    #[must_use]
    pub fn of(self, hue: Hue) -> String {
        let (name, colour) = hue.variable();
        match self {
            Paint::Variables => format!("var({name})"),
            Paint::Light => colour.light.to_owned(),
            Paint::Dark => colour.dark.to_owned(),
        }
    }
}

/// CSS that gives the variables their values within `selector`.
#[must_use]
pub fn style(selector: &str) -> String {
    palette::variables(selector, &Hue::ALL.map(Hue::variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_that_is_used_has_a_value() {
        let style = style("svg");
        for hue in Hue::ALL {
            let used = Paint::Variables.of(hue);
            let name = used.trim_start_matches("var(").trim_end_matches(')');
            for scheme in [Paint::Light, Paint::Dark] {
                assert!(
                    style.contains(&format!("{name}:{}", scheme.of(hue))),
                    "{name}"
                );
            }
        }
    }
}
