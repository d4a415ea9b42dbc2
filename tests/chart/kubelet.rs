//! What the kubelet does to the arguments of a container before it starts it.
//!
//! Source: `args` in the Kubernetes API reference of a container, and for the corners
//! `third_party/forked/golang/expansion/expand.go` of Kubernetes.

/// Variables that a test's texts refer to: an argument that comes through as it is even so was
/// escaped well.
pub const VARIABLES: &[(&str, &str)] =
    &[("HOME", "/root"), ("", "empty"), ("{", "brace"), ("A B", "blank")];

/// Replaces `$(NAME)` by the variable's value where there is one, and `$$` by `$`.
pub fn expand(text: &str, variables: &[(&str, &str)]) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        expanded.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match variables.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}

#[test]
fn expands_as_the_kubelet_does() {
    let variables = [("HOST", "node-1"), ("NESTED", "$(HOST)"), ("NOTHING", "")];
    for (text, expected) in [
        ("$(HOST)", "node-1"),
        ("<$(HOST)><$(HOST)>", "<node-1><node-1>"),
        ("<$(NOTHING)>", "<>"),
        // What a variable stands for is not looked at again.
        ("$(NESTED)", "$(HOST)"),
        // Unknown names stay as they are.
        ("$(NOBODY)", "$(NOBODY)"),
        ("$()", "$()"),
        // Two dollars are one, from the left.
        ("$$(HOST)", "$(HOST)"),
        ("$$$(HOST)", "$node-1"),
        ("$$$$(HOST)", "$$(HOST)"),
        ("$$", "$"),
        ("a $$ b $$$ c", "a $ b $$ c"),
        // A name ends at the first bracket, whatever is in it.
        ("$(A$(HOST))", "$(A$(HOST))"),
        // Without a bracket it is no name.
        ("$(HOST", "$(HOST"),
        ("$(HOST$$", "$(HOST$"),
        ("$HOST $ é$é", "$HOST $ é$é"),
        ("$", "$"),
        ("", ""),
    ] {
        assert_eq!(expand(text, &variables), expected, "of `{text}`");
    }
}
