//! A plugin that exports another interface.
wit_bindgen::generate!({
    inline: "package other:thing@1.0.0; interface work { go: func() -> u32; } world w { export work; }",
});

struct Other;
export!(Other);

impl exports::other::thing::work::Guest for Other {
    fn go() -> u32 {
        42
    }
}
