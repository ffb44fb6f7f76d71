//! Commands of a documentation page, as a reader types them, and the output that the page shows. Pure.

/// Prompt before a command.
const PROMPT: &str = "$ ";

/// Length of the shortest word of an output that is compared: units of sizes and times differ.
const LEAST_COMPARED_LETTERS: usize = 3;

/// A command, and the output that the page shows for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageCommand {
    pub command: String,
    pub output: Vec<String>,
}

/// Returns the commands of all console blocks of a page, in order.
pub fn commands(page: &str) -> Vec<PageCommand> {
    let mut commands: Vec<PageCommand> = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        match line.trim() {
            "```console" => is_inside = true,
            "```" => is_inside = false,
            line if is_inside => match (line.strip_prefix(PROMPT), commands.last_mut()) {
                (Some(command), _) => {
                    commands.push(PageCommand { command: command.to_owned(), output: Vec::new() });
                }
                (None, Some(last)) => last.output.push(line.to_owned()),
                (None, None) => {}
            },
            _ => {}
        }
    }
    commands
}

// === impl PageCommand ===

impl PageCommand {
    /// Returns the words of the page's output that an actual output lacks. Words with digits, colons and ellipses, such as
    /// digests and names of nodes, are not compared.
    pub fn missing_words<'a>(&'a self, actual: &str) -> Vec<&'a str> {
        let is_compared = |word: &&str| {
            word.len() >= LEAST_COMPARED_LETTERS
                && word.chars().all(|one| one.is_ascii_alphabetic() || "/.-".contains(one))
                && word.contains(|one: char| one.is_ascii_alphabetic())
        };
        let words = self.output.iter().flat_map(|line| line.split_whitespace()).filter(is_compared);
        words.filter(|word| !actual.contains(word)).collect()
    }
}
