//! A picture as PNG. The font comes along: a fresh machine has none.

use std::sync::Arc;

use resvg::{tiny_skia, usvg};

/// Pixels a unit of the drawing.
const SCALE: f32 = 2.0;

/// Draws an SVG document whose colours are no variables.
///
/// # Errors
/// Why it cannot be drawn: it is none, or too large for memory.
pub fn png(svg: &str) -> Result<Vec<u8>, String> {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().and_then(|face| face.families.first());
    if let Some(family) = family.map(|(name, _)| name.clone()) {
        fonts.set_sans_serif_family(family);
    }
    let options = usvg::Options {
        fontdb: Arc::new(fonts),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let size = tree
        .size()
        .to_int_size()
        .scale_by(SCALE)
        .ok_or("it has no size")?;
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height())
        .ok_or_else(|| format!("{}x{} pixels are too many", size.width(), size.height()))?;
    let scale = tiny_skia::Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SVG: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" width="60" height="20"><rect width="60" height="20" fill="#ffffff"/>TEXT</svg>"##;

    fn pixels(inside: &str) -> tiny_skia::Pixmap {
        let png = png(&SVG.replace("TEXT", inside)).unwrap();
        tiny_skia::Pixmap::decode_png(&png).unwrap()
    }

    #[test]
    fn letters_are_drawn_without_a_font_of_the_machine() {
        let empty = pixels("");
        assert_eq!((empty.width(), empty.height()), (120, 40));
        let text = r##"<text x="2" y="15" font-size="14" font-weight="600" font-family="system-ui,sans-serif" fill="#000000">hop 7</text>"##;
        let drawn = pixels(text);
        let dark = drawn
            .pixels()
            .iter()
            .filter(|pixel| pixel.red() < 128)
            .count();
        assert!(dark > 100, "{dark} dark pixels");
        assert!(empty.pixels().iter().all(|pixel| pixel.red() == 255));
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        assert!(png("<svg").is_err());
    }
}
