//! The pictures: of every method at every target, as SVG, as PNG, and as a page.
//!
//! | file | what it is for |
//! |---|---|
//! | `layout` | who stands where |
//! | `paint` | colours by name |
//! | `panel` | one method's picture of one target |
//! | `sheet` | all of them on one sheet |
//! | `png` | the sheet as pixels |
//! | `page` | the page |

pub mod layout;
pub mod page;
pub mod paint;
pub mod panel;
pub mod png;
pub mod sheet;

pub use page::page;
pub use paint::Paint;
pub use png::png;
pub use sheet::svg;
