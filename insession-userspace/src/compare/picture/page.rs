//! The page: table, pictures, and what each dot and line tells; it needs nothing else.

use std::fmt::Write as _;

use super::layout::Layout;
use super::paint::{self, Paint};
use super::panel::{self, Style, WIDTH};
use super::sheet::{FONT, legend, subtitle, title};
use crate::bench::html::{begin, escape};
use crate::compare::{Compared, Comparison, View, text};

const STYLE: &str = "
body{max-width:86rem}
div.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,32rem),1fr));gap:1rem;margin:1rem 0}
div.pictures svg,svg.legend{margin:0;width:100%}
svg.legend{max-width:62rem;margin-top:1rem}
g.tells{cursor:default;outline:none}
g.tells:hover>:first-child,g.tells:focus>:first-child{filter:brightness(1.25);stroke-opacity:1}
g.tells:focus-visible>:first-child{stroke:var(--text);stroke-width:3}
g.same>:first-child{stroke:var(--text);stroke-width:3}
#card{position:fixed;z-index:2;pointer-events:none;white-space:pre-line;max-width:24rem;padding:.5rem .75rem;border-radius:.5rem;border:1px solid var(--line);background:var(--page);color:var(--text);box-shadow:0 4px 18px #0004;font-size:13px;line-height:1.45;font-variant-numeric:tabular-nums}
#card[hidden]{display:none}
#card::first-line{font-weight:600}
details{margin:.25rem 0}summary{cursor:pointer;color:var(--dim)}
";

const SCRIPT: &str = "
(() => {
  const card = document.getElementById('card');
  let marked = [];
  const hide = () => {
    card.hidden = true;
    marked.forEach(other => other.classList.remove('same'));
    marked = [];
  };
  const show = (of, x, y) => {
    hide();
    card.textContent = of.dataset.card;
    card.hidden = false;
    const box = card.getBoundingClientRect();
    const left = x + 14 + box.width > innerWidth ? x - 14 - box.width : x + 14;
    const top = y + 14 + box.height > innerHeight ? y - 14 - box.height : y + 14;
    card.style.left = Math.max(4, left) + 'px';
    card.style.top = Math.max(4, top) + 'px';
    if (!of.dataset.node) return;
    marked = [...document.querySelectorAll(`[data-node=\"${of.dataset.node}\"]`)];
    marked.forEach(other => other.classList.add('same'));
  };
  const telling = event => event.target.closest && event.target.closest('[data-card]');
  document.addEventListener('pointermove', event => {
    const of = telling(event);
    if (of) show(of, event.clientX, event.clientY); else hide();
  });
  document.addEventListener('pointerleave', hide);
  const focused = () => {
    const of = document.activeElement;
    if (!of || !of.dataset || !of.dataset.card) return hide();
    const box = of.getBoundingClientRect();
    show(of, box.right, box.bottom);
  };
  document.addEventListener('focusin', focused);
  document.addEventListener('keydown', event => { if (event.key === 'Escape') hide(); });
  // What has the focus was scrolled to.
  document.addEventListener('scroll', focused, { passive: true });
})();
";

/// The whole page.
#[must_use]
pub fn page(comparison: &Comparison) -> String {
    let mut out = begin("insession compare");
    let _ = writeln!(out, "<style>{}{STYLE}</style>", paint::style("svg"));
    table(&mut out, comparison);
    out.push_str(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"legend\" viewBox=\"0 0 1130 24\" {FONT} role=\"img\" aria-label=\"legend\">"
    ));
    legend(&mut out, Paint::Variables);
    out.push_str("</svg>\n");
    for compared in &comparison.targets {
        target(&mut out, compared);
    }
    let _ = writeln!(
        out,
        "<p>{}</p>\n<div id=\"card\" role=\"status\" hidden></div>\n<script>{SCRIPT}</script>\n</body>\n</html>",
        escape(comparison.schema)
    );
    out
}

fn table(out: &mut String, comparison: &Comparison) {
    out.push_str("<div class=\"wide\"><table>\n<tr>");
    for (nth, head) in text::HEADS.iter().enumerate() {
        let class = if nth > 0 { " class=\"n\"" } else { "" };
        let _ = write!(out, "<th{class}>{}</th>", escape(head));
    }
    out.push_str("</tr>\n");
    for figures in &comparison.methods {
        out.push_str("<tr>");
        for (nth, cell) in text::cells(figures).iter().enumerate() {
            let class = if nth > 0 { " class=\"n\"" } else { "" };
            let _ = write!(out, "<td{class}>{}</td>", escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
    for note in [
        "reached: runs that got to the destination. hops answered: of the TTLs of the way, once a run. missing: TTLs at which no run had an answer.",
        "links: lines drawn, between who answered at one TTL and at the next in one column of a run.",
        text::judged(comparison),
    ] {
        let _ = writeln!(out, "<p>{}</p>", escape(note));
    }
}

fn target(out: &mut String, compared: &Compared) {
    let _ = writeln!(
        out,
        "<h2>{}</h2>\n<p>{}</p>\n<div class=\"pictures\">",
        escape(&title(compared)),
        escape(&subtitle(compared))
    );
    let layout = Layout::new(compared);
    let height = panel::height(&layout);
    let style = Style {
        paint: Paint::Variables,
        cards: true,
    };
    for view in &compared.methods {
        let _ = write!(
            out,
            "<section aria-label=\"{}\"><svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.1}\" {FONT}>",
            escape(view.figures.method)
        );
        panel::draw(out, compared, view, &layout, style);
        out.push_str("</svg>\n");
        hops(out, view);
        out.push_str("</section>\n");
    }
    out.push_str("</div>\n");
}

/// The same in words: for who does not point.
fn hops(out: &mut String, view: &View) {
    out.push_str("<details><summary>hops</summary><div class=\"wide\"><table>\n<tr><th class=\"n\">TTL</th><th>who</th><th class=\"n\">answers</th><th class=\"n\">RTT, ms</th><th class=\"n\">loss</th></tr>\n");
    for hop in &view.hops {
        let loss = format!("{:.0} %", hop.loss() * 100.0);
        if hop.responders.is_empty() {
            let _ = writeln!(
                out,
                "<tr><td class=\"n\">{}</td><td>–</td><td class=\"n\">0</td><td class=\"n\">–</td><td class=\"n\">{loss}</td></tr>",
                hop.ttl
            );
        }
        for responder in &hop.responders {
            let name = responder.name.as_ref().map(|name| format!(" {name}"));
            let asn = responder.asn.map(|asn| format!(" AS{asn}"));
            let who = format!(
                "{}{}{}",
                responder.node.address,
                name.unwrap_or_default(),
                asn.unwrap_or_default()
            );
            let rtt = responder
                .rtt_median_us
                .map(|micros| format!("{:.3}", micros / 1e3));
            let _ = writeln!(
                out,
                "<tr><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{loss}</td></tr>",
                hop.ttl,
                escape(&who),
                responder.answers,
                rtt.unwrap_or_else(|| "–".to_owned())
            );
        }
    }
    out.push_str("</table></div></details>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::Made;
    use crate::compare::{Packets, compare};
    use crate::trace::Method;

    #[test]
    fn every_figure_and_every_hop_is_in_the_page() {
        let traces = [
            Made::new(Method::InSession).path("ab!").trace(),
            Made::new(Method::Tcp).path("a.!").trace(),
        ];
        let comparison = compare(&traces, None, &Packets::from([(Method::Tcp, 4321)]));
        let page = page(&comparison);
        for figures in &comparison.methods {
            for cell in text::cells(figures) {
                assert!(page.contains(&format!(">{cell}</td>")), "{cell}");
            }
        }
        for view in &comparison.targets[0].methods {
            for hop in &view.hops {
                for responder in &hop.responders {
                    assert!(page.contains(&format!("<td>{}</td>", responder.node.address)));
                }
            }
        }
        let tags = |tag: &str| page.matches(tag).count();
        assert_eq!(tags("<svg"), 3);
        assert_eq!((tags("<svg"), tags("<section")), (tags("</svg>"), 2));
        // Nothing is fetched.
        assert!(!page.contains(" src=") && !page.contains("<link") && !page.contains("@import"));
    }

    #[test]
    fn nothing_is_a_page_too() {
        let page = page(&compare(&[], None, &Packets::new()));
        assert!(page.contains("</html>") && !page.contains("NaN"));
    }
}
