//! A restore's report as files: Markdown, and HTML with a picture of the timeline.
use std::path::{Path, PathBuf};

use super::answer::Answer;
use crate::{engine::timeline::Phase, failure::Failure, ui::lines::took};

impl Answer {
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("# {} restored in {}\n\nRun {}, begun {}.\n\n", self.environment, self.region, self.run, self.begun);
        for (name, fact) in self.facts() {
            text += &format!("- **{name}**: {fact}\n");
        }
        if !self.phases().is_empty() {
            text += "\n| from | took | what |\n|---|---|---|\n";
        }
        for phase in self.phases() {
            text += &format!("| {} | {} | {} |\n", phase.from, took(millis(phase)), phase.name);
        }
        text
    }

    pub(super) fn html(&self) -> String {
        let facts: String = self.facts().iter().map(|(name, fact)| format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(fact))).collect();
        let title = format!("{} restored in {}", self.environment, self.region);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>body{{font:15px/1.5 system-ui,sans-serif;\
             max-width:60em;margin:2em auto;padding:0 1em}}dt{{font-weight:600}}dd{{margin:0 0 .5em 1em;overflow-wrap:anywhere}}</style></head>\n\
             <body><h1>{title}</h1>\n<p>Run {}, begun {}.</p>\n<dl>\n{facts}</dl>\n{}</body></html>\n",
            self.run,
            self.begun,
            self.picture()
        )
    }

    /// The timeline: a bar a phase, in seconds from the beginning.
    fn picture(&self) -> String {
        let (Some(first), Some(last)) = (self.phases().first(), self.phases().last()) else { return String::new() };
        let (width, row, label) = (900.0, 26, 330.0);
        let whole = last.to.duration_since(first.from).as_secs_f64().max(0.001);
        let scale = (width - label - 90.0) / whole;
        let mut rows = String::new();
        for (at, phase) in self.phases().iter().enumerate() {
            let (top, middle) = (at * row + 4, at * row + 18);
            let from = label + phase.from.duration_since(first.from).as_secs_f64() * scale;
            let length = (phase.took().as_secs_f64() * scale).max(1.5);
            let colour = if phase.name.starts_with("nobody") { "#b0b0b0" } else { "#2f6fab" };
            rows += &format!(
                "<text x=\"{:.1}\" y=\"{middle}\" text-anchor=\"end\">{}</text><rect x=\"{from:.1}\" y=\"{top}\" width=\"{length:.1}\" \
                 height=\"18\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{middle}\">{}</text>\n",
                label - 10.0,
                escaped(&phase.name),
                from + length + 6.0,
                took(millis(phase))
            );
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"timeline\" viewBox=\"0 0 {width} {}\" font-size=\"13\" \
             font-family=\"system-ui,sans-serif\">\n{rows}</svg>\n",
            self.phases().len() * row + 8
        )
    }

    /// Writes report.md and report.html.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 2], Failure> {
        let files = [("report.md", self.markdown()), ("report.html", self.html())];
        let unwritable = |error: std::io::Error| {
            Failure::step(format!("the database {} is restored, but its report cannot be written into {}", self.database, folder.display()))
                .because(error)
        };
        std::fs::create_dir_all(folder).map_err(unwritable)?;
        for (name, text) in &files {
            std::fs::write(folder.join(name), text).map_err(unwritable)?;
        }
        Ok(files.map(|(name, _)| folder.join(name)))
    }
}

pub(super) fn millis(phase: &Phase) -> u64 {
    u64::try_from(phase.took().as_millis()).unwrap_or(u64::MAX)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
