//! Tests of the configuration by the text of files and variables.
