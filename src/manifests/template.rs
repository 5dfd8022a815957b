//! Handlebars, strict, with one rule of our own: whatever a value holds, it ends up as one JSON value and never as YAML syntax.
use std::path::{Path, PathBuf};

use handlebars::{Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext, RenderErrorReason, ScopedJson};
use serde_json::Value;

use super::Object;
use crate::failure::Failure;

/// Renders the folder's templates in the order of their names.
pub fn render_folder(folder: &Path, values: &Value) -> Result<Vec<Object>, Failure> {
    let engine = engine();
    let mut objects = Vec::new();
    for file in files(folder)? {
        let source = std::fs::read_to_string(&file).map_err(|e| Failure::usage(format!("{} cannot be read", file.display())).because(e))?;
        let text = if file.extension().is_some_and(|e| e == "hbs") { expand(&engine, &file, &source, values)? } else { source.clone() };
        objects.extend(parse(&file, &source, &text)?);
    }
    Ok(objects)
}

/// A file of values: `*.yaml.hbs` is a template like any other, `*.yaml` is taken as it is.
pub fn values_file(file: &Path, values: &Value) -> Result<Value, Failure> {
    let source = std::fs::read_to_string(file).map_err(|e| Failure::usage(format!("{} cannot be read", file.display())).because(e))?;
    let text = if file.extension().is_some_and(|e| e == "hbs") { expand(&engine(), file, &source, values)? } else { source };
    let value: Value =
        serde_saphyr::from_str(&text).map_err(|e| Failure::usage(format!("{}: not valid YAML", file.display())).because(e))?;
    if value.is_object() { Ok(value) } else { Err(Failure::usage(format!("{}: values are a map", file.display()))) }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |e: std::io::Error| Failure::usage(format!("the template folder {} cannot be read", folder.display())).because(e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && (name.ends_with(".yaml") || name.ends_with(".yaml.hbs")) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::usage(format!("the template folder {} holds no *.yaml.hbs and no *.yaml", folder.display())));
    }
    Ok(files)
}

fn engine() -> Handlebars<'static> {
    let mut engine = Handlebars::new();
    engine.set_strict_mode(true);
    // `{{x}}` is a JSON string, so that even a forgotten `json` cannot inject; handlebars' own escaping is for HTML.
    engine.register_escape_fn(|text| Value::String(text.to_owned()).to_string());
    engine.register_helper("json", Box::new(write_json));
    engine.register_helper("concat", Box::new(Concat));
    engine
}

fn write_json(helper: &Helper<'_>, _: &Handlebars<'_>, _: &Context, _: &mut RenderContext<'_, '_>, out: &mut dyn Output) -> HelperResult {
    let value = helper.param(0).ok_or(RenderErrorReason::ParamNotFoundForIndex("json", 0))?;
    if value.is_value_missing() {
        return Err(RenderErrorReason::MissingVariable(value.relative_path().cloned()).into());
    }
    out.write(&value.value().to_string())?;
    Ok(())
}

/// `(concat a "-b")`: texts and numbers in a row, for use inside `{{json …}}`.
struct Concat;

impl HelperDef for Concat {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, handlebars::RenderError> {
        let mut text = String::new();
        for value in helper.params() {
            match value.value() {
                Value::String(part) => text.push_str(part),
                Value::Number(part) => text.push_str(&part.to_string()),
                _ => return Err(RenderErrorReason::MissingVariable(value.relative_path().cloned()).into()),
            }
        }
        Ok(ScopedJson::Derived(Value::String(text)))
    }
}

fn expand(engine: &Handlebars<'_>, file: &Path, source: &str, values: &Value) -> Result<String, Failure> {
    if let Some(line) = source.lines().position(|line| line.contains("{{{") || line.contains("{{&")) {
        return Err(Failure::usage(format!(
            "{}:{}: {{{{{{…}}}}}} would put a value in as YAML; use {{{{json …}}}}",
            file.display(),
            line + 1
        )));
    }
    engine.render_template(source, values).map_err(|error| {
        let line = error.line_no.or_else(|| template_line(&error)).map_or_else(String::new, |line| format!(":{line}"));
        Failure::usage(format!("{}{line}: the template cannot be rendered", file.display())).because(error)
    })
}

fn template_line(error: &handlebars::RenderError) -> Option<usize> {
    match error.reason() {
        RenderErrorReason::TemplateError(template) => template.pos().map(|(line, _)| line),
        _ => None,
    }
}

fn parse(file: &Path, source: &str, text: &str) -> Result<Vec<Object>, Failure> {
    let mut objects = Vec::new();
    for (start, document) in documents(text) {
        let value: Value = serde_saphyr::from_str(document).map_err(|error| {
            let within = error.location().map_or(0, |at| usize::try_from(at.line()).unwrap_or(1).saturating_sub(1));
            let line = line_in_template(source, text, start + within);
            Failure::usage(format!("{}:{line}: not valid YAML", file.display())).because(error)
        })?;
        if value.is_null() {
            continue;
        }
        let first = document.lines().position(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or(0);
        objects.push(Object::new(value, file.to_owned(), line_in_template(source, text, start + first))?);
    }
    Ok(objects)
}

/// The documents of a stream, each with the number (from 0) of its first line. A `---` inside a block scalar is indented, so it splits nothing.
pub fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut start_line, mut start_byte, mut byte) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_end() == "---" {
            found.push((start_line, &text[start_byte..byte]));
            start_line = number + 1;
            start_byte = byte + line.len();
        }
        byte += line.len();
    }
    found.push((start_line, &text[start_byte..]));
    found.retain(|(_, document)| document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')));
    found
}

/// The template's line (from 1) that most likely wrote line `rendered` (from 0): loops repeat lines, so the text before the first `{{` is compared.
fn line_in_template(source: &str, text: &str, rendered: usize) -> usize {
    let line = text.lines().nth(rendered).unwrap_or_default();
    source
        .lines()
        .enumerate()
        .filter(|(_, template)| {
            let fixed = template.split("{{").next().unwrap_or_default();
            if template.contains("{{") { !fixed.trim().is_empty() && line.starts_with(fixed) } else { *template == line }
        })
        .min_by_key(|(number, _)| number.abs_diff(rendered))
        .map_or(rendered, |(number, _)| number)
        + 1
}
