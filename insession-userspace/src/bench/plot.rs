//! Plots as SVG that stands alone or in a page, readable in light and dark.
//!
//! Colours are drawn as placeholders and replaced by CSS variables, whose values
//! the SVG brings along for both schemes. Text is sized by the viewer: no font is
//! looked for on this machine.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Figure;
use super::text::number;
use crate::report::palette::{self, Colour};

/// What is drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Plot {
    /// Lines over a common axis.
    Lines(Lines),
    /// Horizontal bars, each a median with its least and most.
    Bars(Bars),
}

/// Lines over a common axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    /// Above it.
    pub title: String,
    /// What is to the right.
    pub x: String,
    /// What is upwards.
    pub y: String,
    /// To the right by powers of ten.
    pub log_x: bool,
    /// Upwards by powers of ten.
    pub log_y: bool,
    /// Name and points, rising in x.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
    /// Points without lines between them.
    pub scatter: bool,
    /// Lines without points on them.
    pub smooth: bool,
    /// Where the names of the lines stand.
    pub names: Corner,
}

/// A corner of a plot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Corner {
    /// Above, to the right.
    #[default]
    UpperRight,
    /// Above, to the left.
    UpperLeft,
    /// Below, to the right.
    LowerRight,
}

/// Horizontal bars.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bars {
    /// Above it.
    pub title: String,
    /// Of the lengths.
    pub unit: String,
    /// Name and value.
    pub bars: Vec<(String, Figure)>,
}

const WIDTH: u32 = 760;
const HEIGHT: u32 = 380;
const BAR: u32 = 22;
const LABELS: i32 = 230;

/// Placeholder and variable: ink, grid, and the series.
const COLOURS: [(RGBColor, &str, Colour); 8] = [
    (RGBColor(1, 1, 1), "--ink", palette::INK),
    (RGBColor(2, 2, 2), "--grid", palette::GRID),
    (RGBColor(3, 3, 3), "--c0", palette::SERIES[0]),
    (RGBColor(4, 4, 4), "--c1", palette::SERIES[1]),
    (RGBColor(5, 5, 5), "--c2", palette::SERIES[2]),
    (RGBColor(6, 6, 6), "--c3", palette::SERIES[3]),
    (RGBColor(7, 7, 7), "--c4", palette::SERIES[4]),
    (RGBColor(8, 8, 8), "--c5", palette::SERIES[5]),
];
const INK: RGBColor = COLOURS[0].0;
const GRID: RGBColor = COLOURS[1].0;

fn series_colour(nth: usize) -> RGBColor {
    COLOURS
        .get(2 + nth % (COLOURS.len() - 2))
        .map_or(INK, |colour| colour.0)
}

/// The plot as an SVG document; empty where there is nothing to draw.
#[must_use]
pub fn svg(plot: &Plot) -> String {
    let drawn = match plot {
        Plot::Lines(lines) => draw_lines(lines),
        Plot::Bars(bars) => draw_bars(bars),
    };
    // Drawing into a string fails only for coordinates that are no numbers.
    drawn.map_or_else(|()| String::new(), |svg| themed(&svg))
}

/// Placeholders become variables, and the variables get their values.
fn themed(svg: &str) -> String {
    let mut svg = svg.to_owned();
    for (RGBColor(r, g, b), name, _) in COLOURS {
        let placeholder = format!("\"#{r:02X}{g:02X}{b:02X}\"");
        svg = svg.replace(&placeholder, &format!("\"var({name})\""));
    }
    let colours = palette::variables("svg.plot", &COLOURS.map(|(_, name, colour)| (name, colour)));
    let style =
        format!("<style>{colours}svg.plot text{{font-family:system-ui,sans-serif}}</style>");
    match svg.split_once('>') {
        Some((head, rest)) => {
            format!(
                "{} class=\"plot\" role=\"img\">{style}{rest}",
                head.trim_end()
            )
        }
        None => svg,
    }
}

/// A logarithmic axis has its labels at powers of ten: where none lies between, those
/// around are taken in.
fn with_a_label(least: f64, most: f64) -> (f64, f64) {
    let (below, above) = (least.log10().floor(), most.log10().floor());
    match below < above {
        true => (least, most),
        false => (10f64.powf(below), 10f64.powf(above + 1.0)),
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_lines(lines: &Lines) -> Result<String, ()> {
    let points = || lines.series.iter().flat_map(|(_, points)| points);
    let range = |of: fn(&(f64, f64)) -> f64, log: bool| {
        let fit = |value: &f64| value.is_finite() && (!log || *value > 0.0);
        let values = || points().map(of).filter(fit);
        let (least, most) = (
            values().fold(f64::INFINITY, f64::min),
            values().fold(f64::NEG_INFINITY, f64::max),
        );
        match (least <= most, log) {
            (false, _) => None,
            (true, true) => Some(with_a_label(least / 1.3, most * 1.3)),
            // From zero: a length is to say how much.
            (true, false) => Some((0.0, if most > 0.0 { most * 1.08 } else { 1.0 })),
        }
    };
    let (left, right) = range(|point| point.0, lines.log_x).ok_or(())?;
    let (bottom, top) = range(|point| point.1, lines.log_y).ok_or(())?;
    let mut out = String::new();
    let root = SVGBackend::with_string(&mut out, (WIDTH, HEIGHT)).into_drawing_area();
    match (lines.log_x, lines.log_y) {
        (false, false) => chart(&root, lines, left..right, bottom..top),
        (true, false) => chart(&root, lines, (left..right).log_scale(), bottom..top),
        (false, true) => chart(&root, lines, left..right, (bottom..top).log_scale()),
        (true, true) => chart(
            &root,
            lines,
            (left..right).log_scale(),
            (bottom..top).log_scale(),
        ),
    }?;
    root.present().map_err(drop)?;
    drop(root);
    Ok(out)
}

fn chart<X, Y>(root: &Area<'_>, lines: &Lines, x: X, y: Y) -> Result<(), ()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(root)
        .caption(&lines.title, ("sans-serif", 17, &INK))
        .margin(10)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(x, y)
        .map_err(drop)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(("sans-serif", 12, &INK))
        .axis_desc_style(("sans-serif", 13, &INK))
        .x_desc(&lines.x)
        .y_desc(&lines.y)
        .x_labels(8)
        .y_labels(7)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()
        .map_err(drop)?;
    for (nth, (name, points)) in lines.series.iter().enumerate() {
        let colour = series_colour(nth);
        let finite = || {
            let fits = |(x, y): &(f64, f64)| {
                x.is_finite()
                    && y.is_finite()
                    && (!lines.log_x || *x > 0.0)
                    && (!lines.log_y || *y > 0.0)
            };
            points.iter().copied().filter(fits)
        };
        if !lines.scatter {
            chart
                .draw_series(LineSeries::new(finite(), colour.stroke_width(2)))
                .map_err(drop)?;
        }
        let points = finite().filter(|_| !lines.smooth);
        let drawn = chart
            .draw_series(points.map(|point| Circle::new(point, 4, colour.filled())))
            .map_err(drop)?;
        if !name.is_empty() {
            drawn
                .label(name)
                .legend(move |(x, y)| Circle::new((x + 10, y), 4, colour.filled()));
        }
    }
    chart
        .configure_series_labels()
        .position(match lines.names {
            Corner::UpperRight => SeriesLabelPosition::UpperRight,
            Corner::UpperLeft => SeriesLabelPosition::UpperLeft,
            Corner::LowerRight => SeriesLabelPosition::LowerRight,
        })
        .label_font(("sans-serif", 13, &INK))
        .border_style(TRANSPARENT)
        .draw()
        .map_err(drop)
}

fn draw_bars(bars: &Bars) -> Result<String, ()> {
    let most = bars
        .bars
        .iter()
        .filter_map(|(_, figure)| figure.max)
        .fold(0.0, f64::max);
    if most <= 0.0 {
        return Err(());
    }
    let height = 56 + BAR * bars.bars.len() as u32;
    let mut out = String::new();
    let root = SVGBackend::with_string(&mut out, (WIDTH, height)).into_drawing_area();
    let style = |size: i32, at: HPos| {
        ("sans-serif", size)
            .into_font()
            .color(&INK)
            .pos(Pos::new(at, VPos::Center))
    };
    let text = |words: &str, place, style| root.draw_text(words, &style, place).map_err(drop);
    let title = format!("{} ({})", bars.title, bars.unit);
    text(&title, (WIDTH as i32 / 2, 18), style(17, HPos::Center))?;
    let scale = f64::from(WIDTH as i32 - LABELS - 110) / most;
    let at = |value: f64| LABELS + (value * scale) as i32;
    for (nth, (name, figure)) in bars.bars.iter().enumerate() {
        let top = 40 + (BAR * nth as u32) as i32;
        let middle = top + BAR as i32 / 2;
        text(name, (LABELS - 8, middle), style(13, HPos::Right))?;
        let Some(median) = figure.median else {
            text(
                "not to be had here",
                (LABELS + 4, middle),
                style(12, HPos::Left),
            )?;
            continue;
        };
        let (low, high) = (figure.min.unwrap_or(median), figure.max.unwrap_or(median));
        let bar = [(LABELS, top + 4), (at(median), top + BAR as i32 - 4)];
        root.draw(&Rectangle::new(bar, series_colour(0).filled()))
            .map_err(drop)?;
        let whisker = [(at(low), middle), (at(high), middle)];
        root.draw(&PathElement::new(whisker, INK)).map_err(drop)?;
        for end in [low, high] {
            let tick = [(at(end), middle - 4), (at(end), middle + 4)];
            root.draw(&PathElement::new(tick, INK)).map_err(drop)?;
        }
        text(
            &number(median),
            (at(high) + 8, middle),
            style(12, HPos::Left),
        )?;
    }
    root.present().map_err(drop)?;
    drop(root);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_has_a_label() {
        assert_eq!(with_a_label(0.9, 200.0), (0.9, 200.0));
        let (least, most) = with_a_label(0.02, 0.04);
        assert!((least - 0.01).abs() < 1e-9 && (most - 0.1).abs() < 1e-9);
        let (least, most) = with_a_label(200.0, 300.0);
        assert!((least - 100.0).abs() < 1e-6 && (most - 1000.0).abs() < 1e-6);
    }

    fn lines(log: bool) -> Plot {
        Plot::Lines(Lines {
            title: "Cost <a> probe".into(),
            x: "sessions".into(),
            y: "ns".into(),
            log_x: log,
            log_y: log,
            series: vec![
                (
                    "engine".into(),
                    vec![(1.0, 300.0), (1e3, 310.0), (1e6, 500.0)],
                ),
                ("link".into(), vec![(1.0, 100.0), (1e6, f64::NAN)]),
            ],
            ..Lines::default()
        })
    }

    #[test]
    fn both_schemes_are_in_it_and_no_colour_is_fixed() {
        for plot in [lines(false), lines(true)] {
            let svg = svg(&plot);
            assert!(
                svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
                "{svg}"
            );
            assert!(svg.contains("prefers-color-scheme:dark") && svg.contains("var(--c1)"));
            assert!(svg.contains("Cost &lt;a&gt; probe") && svg.contains("engine"));
            assert!(!svg.contains("=\"#0"), "a colour is fixed: {svg}");
            assert!(!svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn bars_name_what_is_not_there() {
        let svg = svg(&Plot::Bars(Bars {
            title: "Choices".into(),
            unit: "probes/s".into(),
            bars: vec![
                ("copy".into(), Figure::new([1e6, 1.2e6, 1.1e6])),
                ("zero-copy".into(), Figure::default()),
            ],
        }));
        for words in ["copy", "zero-copy", "1,100,000", "not to be had here"] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
    }

    #[test]
    fn nothing_to_draw_is_nothing() {
        assert_eq!(svg(&Plot::Bars(Bars::default())), "");
        assert_eq!(svg(&Plot::Lines(Lines::default())), "");
    }
}
