//! `quinistry man`: writes a manual page for the program and each of its commands.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, ValueHint};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::help;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder for the pages, for example ~/.local/share/man/man1; created if it does not exist
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let failed = |path: &Path| format!("failed to write {}", path.display());
        fs::create_dir_all(&self.folder).with_context(|| failed(&self.folder))?;
        let mut written = String::new();
        for (name, page) in pages()? {
            let path = self.folder.join(name);
            fs::write(&path, page).with_context(|| failed(&path))?;
            written = written + &path.display().to_string() + "\n";
        }
        super::print(written)
    }
}

/// Renders all pages, with the names of their files.
fn pages() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut program = help::visible(&help::program());
    program.build();
    let mut pages = Vec::new();
    collect(&program, &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    pages.push((format!("{name}.1"), page(command, &name)?));
    command.get_subcommands().filter(|one| one.get_name() != "help").try_for_each(|one| collect(one, pages))
}

fn page(command: &Command, name: &str) -> anyhow::Result<Vec<u8>> {
    let man = Man::new(command.clone().name(name.to_owned()));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let examples = help::examples(command);
    if !examples.is_empty() {
        let mut section = Roff::new();
        section.control("SH", ["EXAMPLES"]);
        // Filled lines would run into each other.
        section.control("nf", []);
        for line in &examples {
            section.text([roman(line.clone())]);
        }
        section.control("fi", []);
        section.to_writer(&mut page)?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let pages = super::pages().unwrap();
        let page = |name: &str| {
            let found = pages.iter().find(|(file, _)| file == name);
            String::from_utf8(found.unwrap_or_else(|| panic!("{name}")).1.clone()).unwrap()
        };
        assert!(page("quinistry.1").contains("quinistry\\-push(1)"), "{}", page("quinistry.1"));
        let push = page("quinistry-push.1");
        assert!(push.contains("EXAMPLES") && push.contains("\\-\\-self"), "{push}");
        assert!(!push.contains("\\-\\-image"), "a hidden flag is not in the manual");
        page("quinistry-image-save.1");
    }
}
