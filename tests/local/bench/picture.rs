//! Pictures of what was measured, as SVG: distributions, and costs over sizes.

use std::fmt::Write;

use super::report::percentile;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 260.0;
const RIGHT: f64 = 70.0;
const ROW: f64 = 30.0;
const COLORS: [&str; 3] = ["#2a7", "#47c", "#999"];

/// One distribution a row: thin from the least to the greatest, thick from p10 to p90, a stroke at p50. `values` are in order.
pub(super) fn distributions(title: &str, unit: &str, rows: &[(String, usize, Vec<f64>)]) -> String {
    let most = rows.iter().filter_map(|(_, _, values)| values.last().copied()).fold(1.0, f64::max);
    let x = |value: f64| LEFT + value / most * (WIDTH - LEFT - RIGHT);
    let height = 50.0 + ROW * count(rows.len());
    let mut svg = head(title, height);
    for (number, (name, color, values)) in rows.iter().enumerate() {
        let y = 34.0 + ROW * count(number);
        let [least, p10, p50, p90, greatest] = [0, 10, 50, 90, 100].map(|percent| percentile(values, percent));
        let color = COLORS[color % COLORS.len()];
        let _ = write!(svg, r#"<text x="{:.0}" y="{:.0}" text-anchor="end">{name}</text>"#, LEFT - 8.0, y + 14.0);
        let _ = write!(svg, r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="2" fill="{color}"/>"#, x(least), y + 9.0, x(greatest) - x(least));
        let _ = write!(svg, r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="12" fill="{color}" opacity="0.6"/>"#, x(p10), y + 4.0, x(p90) - x(p10));
        let _ = write!(svg, r#"<rect x="{:.1}" y="{y:.1}" width="3" height="20" fill="{color}"/>"#, x(p50) - 1.5);
        let _ = writeln!(svg, r#"<text x="{:.1}" y="{:.0}" font-size="11">{p50:.1} {unit}</text>"#, x(greatest) + 5.0, y + 14.0);
    }
    svg + "</svg>\n"
}

/// Lines over sizes, both scales logarithmic. Each has the power with which it grows beside its name.
pub(super) fn growth(title: &str, over: &str, unit: &str, lines: &[(String, Vec<(f64, f64)>)]) -> String {
    let all = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let bounds = |of: fn((f64, f64)) -> f64| all().map(of).fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    let ((left, right), (low, high)) = (bounds(|point| point.0), bounds(|point| point.1));
    let span = |least: f64, most: f64| (most / least).ln().max(0.1);
    let x = |value: f64| 70.0 + (value / left).ln() / span(left, right) * (WIDTH - 330.0);
    let y = |value: f64| 250.0 - (value / low).ln() / span(low, high) * 190.0;
    let mut svg = head(title, 300.0);
    for (number, (name, points)) in lines.iter().enumerate() {
        let color = COLORS[number % COLORS.len()];
        let path: Vec<_> = points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let _ = write!(svg, r#"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2"/>"#, path.join(" "));
        for point in points {
            let _ = write!(svg, r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{color}"/>"#, x(point.0), y(point.1));
            let _ = write!(svg, r#"<text x="{:.1}" y="{:.1}" font-size="11" text-anchor="middle">{:.0}</text>"#, x(point.0), y(point.1) - 7.0, point.1);
        }
        if let Some(end) = points.last() {
            let power = exponent(points);
            let _ = writeln!(svg, r#"<text x="{:.1}" y="{:.1}">{name} (^{power:.2})</text>"#, x(end.0) + 12.0, y(end.1) + 4.0);
        }
    }
    for (size, _) in lines.first().map(|(_, points)| points.as_slice()).unwrap_or_default() {
        let _ = write!(svg, r#"<text x="{:.1}" y="272" text-anchor="middle">{size:.0}</text>"#, x(*size));
    }
    let _ = writeln!(svg, r#"<text x="70" y="292" font-size="11">{over} →, {unit} ↑, both logarithmic; in brackets the power that fits</text>"#);
    svg + "</svg>\n"
}

/// The power with which the second grows with the first: the slope of the least squares between their logarithms.
pub(super) fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<_> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = count(logs.len());
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / n;
    let (mx, my) = (mean(|point| point.0), mean(|point| point.1));
    logs.iter().map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / logs.iter().map(|(x, _)| (x - mx).powi(2)).sum::<f64>()
}

#[allow(clippy::cast_precision_loss, reason = "there are few")]
fn count(number: usize) -> f64 {
    number as f64
}

fn head(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>{title}</title>\n<style>text{{fill:#333}}@media(prefers-color-scheme:dark){{text{{fill:#ccc}}}}</style>\n\
         <text x=\"10\" y=\"20\" font-weight=\"bold\">{title}</text>\n"
    )
}
