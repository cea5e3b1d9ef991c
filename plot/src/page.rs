//! The frame of every page.

use std::fmt::Write as _;

use super::{STYLE as PLOTS, markup::escape};

/// Style of the pages, besides that of the plots.
const STYLE: &str = include_str!("page.css");

/// A whole page, with the style of plots. `script` is our own and may have neither `<` nor `&`.
pub fn page(title: &str, body: &str, script: &str) -> String {
    let title = escape(title);
    let script = match script {
        "" => String::new(),
        script => format!("<script>\n{script}</script>\n"),
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}</title>\n<style>\n{PLOTS}{STYLE}</style>\n</head>\n<body>\n<main>\n\
         {body}</main>\n{script}</body>\n</html>\n"
    )
}

/// A table's column.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    Text(&'static str),
    Number(&'static str),
}

/// A table. The cells are markup: whoever gives them has escaped what needs it.
pub fn table(html: &mut String, columns: &[Column], rows: &[Vec<String>]) {
    html.push_str("<div class=\"wide\"><table><thead><tr>");
    for column in columns {
        let (class, name) = match column {
            Column::Text(name) => ("", name),
            Column::Number(name) => (" class=\"number\"", name),
        };
        let _ = write!(html, "<th scope=\"col\"{class}>{}</th>", escape(name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (column, cell) in columns.iter().zip(row) {
            let class = match column {
                Column::Text(_) => "",
                Column::Number(_) => " class=\"number\"",
            };
            let _ = write!(html, "<td{class}>{cell}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
}
