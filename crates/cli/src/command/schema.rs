//! `keepwell schema`.

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::failure::Result;
use crate::output::{self, human::pad};

/// Write the JSON Schema of keepwell.toml for editors, or list the keys of one of its tables
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell schema > keepwell.schema.json     # then, in keepwell.toml: #:schema ./keepwell.schema.json
  keepwell schema services                   # every key of a service, and what it does")]
pub(crate) struct Schema {
    /// List the keys of this table
    #[arg(value_enum)]
    table: Option<Table>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Table {
    /// A service
    Services,
    /// What all services share
    Defaults,
    /// The guardian itself
    Keepwell,
}

impl Schema {
    pub(crate) fn run(self) -> Result<i32> {
        let schema = keepwell_config::schema();
        let name = match self.table {
            None => {
                output::print(&output::json::document(&schema)?)?;
                return Ok(keepwell_sdk::exit::DONE);
            }
            Some(Table::Services) => "service",
            Some(Table::Defaults) => "defaults",
            Some(Table::Keepwell) => "keepwell",
        };
        output::print(&keys(&schema["$defs"][name]))?;
        Ok(keepwell_sdk::exit::DONE)
    }
}

/// One line a key, those of tables within it below it.
fn keys(table: &Value) -> String {
    let mut all = vec![];
    collect(table, "", &mut all);
    let width = all.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    all.iter()
        .map(|(key, what)| format!("{}  {what}", pad(key, width)).trim_end().to_owned() + "\n")
        .collect()
}

fn collect(table: &Value, prefix: &str, all: &mut Vec<(String, String)>) {
    let Some(properties) = table["properties"].as_object() else {
        return;
    };
    for (key, value) in properties {
        let key = format!("{prefix}{key}");
        all.push((key.clone(), value["description"].as_str().unwrap_or_default().replace('\n', " ")));
        // A value may be a table, or one of several shapes of which one is a table.
        let shapes = value["anyOf"].as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for shape in shapes {
            collect(shape, &format!("{key}."), all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_within_keys_are_listed() {
        let schema = serde_json::json!({ "properties": {
            "command": { "description": "The program." },
            "restart": { "description": "What happens.", "anyOf": [
                { "type": "string" },
                { "properties": { "delay": { "description": "How long." } } },
            ] },
        } });
        insta::assert_snapshot!(keys(&schema), @r"
        command        The program.
        restart        What happens.
        restart.delay  How long.
        ");
    }

    #[test]
    fn every_table_has_keys() {
        let schema = keepwell_config::schema();
        for (table, key) in
            [("service", "command  "), ("defaults", "restart.limit.max  "), ("keepwell", "operators  ")]
        {
            assert!(keys(&schema["$defs"][table]).contains(key), "{table}");
        }
    }
}
