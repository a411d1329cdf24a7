//! Charts, as SVG: no fonts are needed to draw them.

use std::path::Path;

use plotters::prelude::*;

use crate::{
    error::{Error, Result},
    figures::Point,
};

/// Colours of configurations, in the order of [`super::CONFIGS`]. They differ in brightness too.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x33, 0x33, 0x33),
    RGBColor(0x9e, 0xca, 0xe1),
    RGBColor(0x4f, 0x9b, 0xd0),
    RGBColor(0x08, 0x45, 0x94),
    RGBColor(0x21, 0x71, 0xb5),
    RGBColor(0xcb, 0x18, 0x1d),
    RGBColor(0xfd, 0xae, 0x6b),
    RGBColor(0xa1, 0x6b, 0xae),
];

fn colour(config: &str) -> RGBColor {
    let index = super::CONFIGS.iter().position(|name| *name == config);
    COLOURS[index.unwrap_or(0)]
}

fn failed(path: &Path) -> impl Fn(String) -> Error {
    move |why| Error::Chart {
        path: path.to_owned(),
        why,
    }
}

/// Bars: for each row the ratios of some configurations, on a logarithmic scale that begins at 1.
pub(super) fn bars(
    path: &Path,
    title: &str,
    configs: &[&str],
    rows: &[(&str, Vec<Option<f64>>)],
) -> Result {
    let text = |error: &dyn std::fmt::Display| failed(path)(error.to_string());
    let shown = rows.iter().flat_map(|(_, ratios)| ratios.iter().flatten());
    let max = shown.copied().fold(1.1, f64::max) * 1.05;
    let lines = u32::try_from(rows.len() * (configs.len() + 1)).unwrap_or(u32::MAX);
    let size = (900, lines.saturating_mul(9).saturating_add(120));
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE).map_err(|error| text(&error))?;
    #[expect(clippy::cast_precision_loss, reason = "there are some tens of rows")]
    let height = rows.len() as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 24))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(130)
        .build_cartesian_2d((1.0..max).log_scale(), height..0.0)
        .map_err(|error| text(&error))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc("multiple of the instructions without provfs")
        .x_label_formatter(&|ratio| format!("{ratio:.1}"))
        .label_style(("sans-serif", 16))
        .draw()
        .map_err(|error| text(&error))?;
    #[expect(clippy::cast_precision_loss, reason = "there are eight configurations")]
    let (bar, count) = (1.0 / (configs.len() as f64 + 1.0), configs.len() as f64);
    for (column, config) in configs.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "there are some tens of rows")]
        let bars = rows.iter().enumerate().filter_map(|(row, (_, ratios))| {
            let ratio = (*ratios.get(column)?)?.max(1.0);
            let top = row as f64 + bar * (column as f64 + 0.5);
            Some(Rectangle::new(
                [(1.0, top), (ratio, top + bar)],
                colour(config).filled(),
            ))
        });
        chart
            .draw_series(bars)
            .map_err(|error| text(&error))?
            .label(*config)
            .legend(move |(x, y)| {
                Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour(config).filled())
            });
    }
    #[expect(clippy::cast_precision_loss, reason = "there are some tens of rows")]
    for (row, (name, _)) in rows.iter().enumerate() {
        let (_, y) = chart.backend_coord(&(1.0, row as f64 + bar * (count + 1.0) / 2.0));
        let style =
            TextStyle::from(("sans-serif", 16)).pos(plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Right,
                plotters::style::text_anchor::VPos::Center,
            ));
        root.draw(&Text::new((*name).to_owned(), (132, y), style))
            .map_err(|error| text(&error))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 16))
        .draw()
        .map_err(|error| text(&error))?;
    root.present().map_err(|error| text(&error))
}

/// A curve for each configuration: instructions by size.
pub(super) fn curves(
    path: &Path,
    title: &str,
    of: &str,
    configs: &[&str],
    points: &[&Point],
) -> Result {
    let text = |error: &dyn std::fmt::Display| failed(path)(error.to_string());
    let x_max = points.iter().map(|point| point.x).max().unwrap_or(1);
    let y_max = points
        .iter()
        .map(|point| point.total.value)
        .fold(1.0, f64::max)
        * 1.1;
    let root = SVGBackend::new(path, (700, 360)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| text(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 22))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(0_u32..x_max, 0.0..y_max)
        .map_err(|error| text(&error))?;
    chart
        .configure_mesh()
        .x_desc(of)
        .y_desc("guest instructions")
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(("sans-serif", 16))
        .draw()
        .map_err(|error| text(&error))?;
    for config in configs {
        let line: Vec<_> = points
            .iter()
            .filter(|point| point.config == *config)
            .map(|point| (point.x, point.total.value))
            .collect();
        if line.is_empty() {
            continue;
        }
        chart
            .draw_series(LineSeries::new(line, colour(config).stroke_width(2)))
            .map_err(|error| text(&error))?
            .label(*config)
            .legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 14, y)], colour(config).stroke_width(2))
            });
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 16))
        .draw()
        .map_err(|error| text(&error))?;
    root.present().map_err(|error| text(&error))
}
