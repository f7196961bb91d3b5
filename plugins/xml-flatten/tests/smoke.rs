//! x
use weir_sdk::testing::Bench;
use xml_flatten::Flatten;
#[test]
fn smoke() {
    let doc = br#"
 <library>
  <book><record_id>1</record_id><title lang="en"> Tom &amp; <![CDATA[Jerry]]> </title><author><name>A</name></author><publication_year>2021</publication_year></book>
  <book><record_id>2</record_id><title/><publication_year>x</publication_year></book>
  <book/>
 </library>"#;
    let b = Bench::default().key("row-tag","book").key("columns","record_id,title,title/@lang,author/name,publication_year").key("types.publication_year","int")
      .bytes("value", &[Some(doc), Some(b"<a><b></a>"), None]);
    let t = b.run::<Flatten>(3);
    println!("{:#?} {:#?}", t.lines(), t.rejects);
}
