//! Commands of docs/air-gap.md, as the story that runs them reads them.

#[path = "../../e2e/stories/support/page_commands.rs"]
#[allow(unreachable_pub, reason = "the same file is a module of another program")]
mod page_commands;

use page_commands::commands;

#[test]
fn every_command_of_the_page_is_one_that_the_story_can_run() {
    let page = std::fs::read_to_string("docs/air-gap.md").unwrap();
    let commands = commands(&page);
    assert!(commands.len() > 8, "{commands:?}");
    for one in commands {
        let program = one.command.split_whitespace().next().unwrap();
        assert!(["quinistry", "kubectl", "helm"].contains(&program), "{}", one.command);
    }
}

#[test]
fn commands_and_their_output_are_told_apart() {
    let page = "$ not a block\n```console\n$ quinistry status\n├─ stores  Ready 3/3 on n1\nok\n```\ntext\n";
    let [command] = &commands(page)[..] else { panic!("one command") };
    assert_eq!(command.command, "quinistry status");
    assert_eq!(command.output.len(), 2);
    assert_eq!(command.missing_words("stores on n7"), ["Ready"]);
    assert!(command.missing_words("Ready stores").is_empty());
}
