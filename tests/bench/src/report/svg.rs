//! Bars in SVG: readable on light and on dark pages, for it brings no background and follows the
//! reader's setting.

use std::fmt::Write;

use crate::stats::Spread;

use super::number::short;

/// Bars that are compared with each other.
#[derive(Debug)]
pub(super) struct Group {
    /// What stands above them.
    pub(super) name: String,
    /// The bars, from top to bottom.
    pub(super) bars: Vec<Bar>,
}

/// A bar, with a line from the least to the most.
#[derive(Debug)]
pub(super) struct Bar {
    /// Whose it is.
    pub(super) name: String,
    /// How long it is.
    pub(super) spread: Spread,
    /// Whether it is the one that the chart is about.
    pub(super) ours: bool,
}

// All in pixels.
const WIDTH: f64 = 720.0;
const NAMES: f64 = 150.0;
const VALUES: f64 = 70.0;
const ROW: f64 = 20.0;
const BAR: f64 = 13.0;
const HEAD: f64 = 34.0;
const GAP: f64 = 26.0;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#333}\
.title{font-size:14px;font-weight:600}.case{font-weight:600}.value{fill:#666}\
.bar{fill:#9aa5b1}.ours{fill:#c2410c}.line{stroke:#333;stroke-width:1}\
@media(prefers-color-scheme:dark){text{fill:#ddd}.value{fill:#aaa}\
.bar{fill:#68737f}.ours{fill:#f97316}.line{stroke:#ddd}}";

/// A chart; each group has a scale of its own, from zero to its longest bar.
pub(super) fn chart(title: &str, groups: &[Group]) -> String {
    let height = groups.iter().map(|group| GAP + ROW * group.bars.len() as f64).sum::<f64>();
    let height = HEAD + height + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n<text class=\"title\" x=\"0\" y=\"18\">{title}</text>\n",
        title = escape(title),
    );
    let mut top = HEAD;
    for group in groups {
        top = draw(&mut svg, group, top);
    }
    svg + "</svg>\n"
}

/// Draws a group, and says where it ends.
fn draw(svg: &mut String, group: &Group, top: f64) -> f64 {
    let longest = group.bars.iter().map(|bar| bar.spread.max).fold(1e-12, f64::max);
    let scale = (WIDTH - NAMES - VALUES) / longest;
    let name = escape(&group.name);
    let _ = writeln!(svg, "<text class=\"case\" x=\"0\" y=\"{:.1}\">{name}</text>", top + 14.0);
    let mut row = top + GAP - 4.0;
    for bar in &group.bars {
        let Spread { median, min, max } = bar.spread;
        let [from, to, end] = [min, max, median].map(|value| NAMES + value.max(0.0) * scale);
        let (class, middle) = (if bar.ours { "ours" } else { "bar" }, row + BAR / 2.0);
        let (name, value, text) = (escape(&bar.name), short(median), row + 11.0);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"{NAMES}\" y=\"{row:.1}\" width=\"{:.1}\" height=\"{BAR}\"/>\
             <line class=\"line\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{text:.1}\">{value}</text>",
            NAMES - 8.0,
            end - NAMES,
            end.max(to) + 6.0,
        );
        row += ROW;
    }
    row + 4.0
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_drawn_within_the_chart_and_names_are_escaped() {
        let bar = |name: &str, median: f64| Bar {
            name: name.into(),
            spread: Spread { median, min: median * 0.9, max: median * 1.1 },
            ours: name == "a",
        };
        let bars = vec![bar("a", 1.0), bar("b<c", 4.0)];
        let svg = chart("T & U", &[Group { name: "g".into(), bars }]);
        assert_eq!(svg.matches("<rect").count(), 2);
        assert_eq!(svg.matches("class=\"ours\"").count(), 1);
        assert!(svg.contains("T &amp; U") && svg.contains("b&lt;c"), "{svg}");
        let widths = svg.split("width=\"").skip(2).filter_map(|rest| rest.split('"').next());
        assert!(widths.map(|w| w.parse::<f64>().unwrap()).all(|w| w <= WIDTH), "{svg}");
    }
}
