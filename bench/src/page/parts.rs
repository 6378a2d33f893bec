//! Pieces of HTML that sections are made of.

use super::text::escape;

/// A section of the page: a heading, what its charts have in common, and the charts.
pub(super) fn section(id: &str, title: &str, about: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    format!(
        "<section id=\"{id}\"><header><h2>{}</h2><p>{}</p></header>\n{body}</section>\n",
        escape(title),
        escape(about)
    )
}

/// A heading and the panels below it.
pub(super) fn row(title: &str, panels: &[String]) -> String {
    if panels.is_empty() {
        return String::new();
    }
    format!("<h3>{}</h3>\n{}", escape(title), grid(panels))
}

/// Panels side by side, as many as there is room for.
pub(super) fn grid(panels: &[String]) -> String {
    if panels.is_empty() {
        return String::new();
    }
    format!("<div class=\"grid\">\n{}</div>\n", panels.concat())
}

/// Something to look at later.
pub(super) fn folded(title: &str, open: bool, body: &str) -> String {
    let open = if open { " open" } else { "" };
    format!("<details{open}><summary>{}</summary>\n{body}</details>\n", escape(title))
}

/// A chart, with what it shows and of how many runs.
pub(super) fn figure(title: &str, note: &str, drawing: &str) -> String {
    format!(
        "<figure><figcaption><b>{}</b> <span>{}</span></figcaption>{drawing}</figure>\n",
        escape(title),
        escape(note)
    )
}

/// A table whose first column is text and whose others are numbers.
pub(super) fn table(caption: &str, heads: &[&str], rows: &[Vec<String>]) -> String {
    let head: String =
        heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", escape(head))).collect();
    let cells = |row: &Vec<String>| -> String {
        let cell = |(at, text): (usize, &String)| match at {
            0 => format!("<th scope=\"row\">{}</th>", escape(text)),
            _ => format!("<td>{}</td>", escape(text)),
        };
        let cells: String = row.iter().enumerate().map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = rows.iter().map(cells).collect();
    let caption = match caption {
        "" => String::new(),
        text => format!("<caption>{}</caption>", escape(text)),
    };
    format!(
        "<div class=\"wide\" tabindex=\"0\"><table>{caption}<thead><tr>{head}</tr>\
         </thead>\n<tbody>{body}</tbody></table></div>\n"
    )
}
