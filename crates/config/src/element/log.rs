//! `log = { file = "logs/web.log", rotate = { size = "10MB", keep = 5 } }`.

use super::scalar::{Filled, Int};
use super::size::Size;
use crate::read::{plain_table, table};

table! {
    /// Where a service's output goes.
    RawLog {
        /// The file of the output, and of the errors unless `stderr_file` is set. With `instances` above 1 it must hold `${instance}`.
        file: Filled = "`STATE/logs/NAME.log`; `NAME@2.log` for instance 2 and so on", restart;
        /// A file of its own for the errors.
        stderr_file: Filled = "they go where the output goes", restart;
        /// When a new file is begun.
        rotate: RawRotate = "see below", table;
    }
}
plain_table!(RawLog, "a table", "{ file = \"logs/web.log\", rotate = { size = \"10MB\", keep = 5 } }");

table! {
    /// When a new log file is begun.
    RawRotate {
        /// The size at which a new file is begun; at least `"64KiB"`.
        size: Size = "`\"100MB\"`", live;
        /// How many full files are kept beside the current one.
        keep: Int<0, 10_000> = "7", live;
    }
}
plain_table!(RawRotate, "a table", "{ size = \"10MB\", keep = 5 }");
