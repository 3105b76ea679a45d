// Which tokenizer a run has, and what lies beside its datasets.
#include "launch/data/run_tokenizer.h"

#include "launch/data/prepare.h"
#include "tests/data/data_test_support.h"

namespace witan {
namespace {

using test::content_of;
using test::user_error;

const std::string kFixtures = std::string(WITAN_SOURCE_DIR) + "/tests/fixtures/tokenizers/";

class RunTokenizerTest : public test::FolderTest {
 protected:
  void prepare_with(const std::string& tokenizer, const std::string& name) {
    PrepareOptions options;
    options.inputs = {write_file("text.txt", "It is a text.\n")};
    options.output = path(name);
    options.tokenizer = tokenizer;
    options.overwrite = true;
    prepare(options);
  }
  configs::DataConfig data_of(const std::vector<std::string>& names) const {
    configs::DataConfig data;
    for (const std::string& name : names) {
      configs::Dataset& dataset = *data.add_train();
      dataset.set_name(name);
      dataset.set_path(path(name));
    }
    return data;
  }
};

TEST_F(RunTokenizerTest, IsThatOfTheDatasets) {
  prepare_with(kFixtures + "gpt2", "a");
  prepare_with(kFixtures + "gpt2/tokenizer.json", "b");
  prepare_with("byte", "c");
  const auto gpt2 = make_tokenizer(kFixtures + "gpt2");
  EXPECT_EQ(tokenizer_of(data_of({"a", "b"}))->name(), gpt2->name());
  EXPECT_EQ(tokenizer_of(data_of({"c"}))->name(), "byte");
  EXPECT_EQ(tokenizer_of(data_of({"none"}))->name(), "byte");
  EXPECT_EQ(content_of(path("a.tokenizer/tokenizer.json")), gpt2->files()[0].content);
  EXPECT_FALSE(std::filesystem::exists(path("c.tokenizer")));

  prepare_with("byte", "a");  // in place of the other
  EXPECT_FALSE(std::filesystem::exists(path("a.tokenizer")));
}

TEST_F(RunTokenizerTest, CanBeNamed) {
  prepare_with(kFixtures + "gpt2", "a");
  configs::DataConfig data = data_of({"a"});
  data.set_tokenizer(kFixtures + "gpt2/tokenizer.json");
  EXPECT_EQ(tokenizer_of(data)->name(), make_tokenizer(kFixtures + "gpt2")->name());
  data.set_tokenizer("none");
  EXPECT_EQ(tokenizer_of(data), nullptr);
  EXPECT_EQ(end_of_document_of(data, nullptr), -1);
  data.set_end_of_document(7);
  EXPECT_EQ(end_of_document_of(data, nullptr), 7);
}

TEST_F(RunTokenizerTest, MustBeTheSameEverywhere) {
  prepare_with(kFixtures + "gpt2", "a");
  prepare_with(kFixtures + "llama3", "b");
  prepare_with(kFixtures + "gpt2/tokenizer.json", "c");
  const auto check = [&](const configs::DataConfig& data) {
    check_tokenizer_of_datasets(data, tokenizer_of(data).get());
  };
  EXPECT_CONTAINS(user_error([&] {
                    check(data_of({"a", "b"}));
                  }),
                  "dataset \"b\" (" + path("b") + ") was prepared with the tokenizer in " +
                      path("b.tokenizer"));
  EXPECT_NO_THROW(check(data_of({"a", "c", "none"})));
  configs::DataConfig data = data_of({"a"});
  data.set_tokenizer("byte");
  EXPECT_CONTAINS(user_error([&] { check(data); }), "that of this run is byte");
  data.set_tokenizer("none");
  EXPECT_NO_THROW(check(data));
}

TEST_F(RunTokenizerTest, PrepareNeedsAnEndOfDocument) {
  std::string json = content_of(kFixtures + "gpt2/tokenizer.json");
  json.replace(json.find("<|endoftext|>"), 13, "<|nothing|..>");
  const std::string file = write_file("tokenizer.json", json);
  EXPECT_CONTAINS(user_error([&] { prepare_with(file, "a"); }), "which token ends a document");
}

// Blocks of any size leave no trace in the tokens.
TEST_F(RunTokenizerTest, BlocksLeaveNoTrace) {
  std::string text;
  for (int i = 0; i < 40; ++i) {
    text += "It's line " + std::to_string(i) + ",\n\n  with  spaces \u00e9\u6f22\n" +
            (i % 7 == 0 ? "----\n" : "") + "x\r\n\r\n\ty 123456\n";
  }
  PrepareOptions options;
  options.inputs = {write_file("a.txt", text), write_file("b.txt", "the end")};
  options.output = path("d");
  options.overwrite = true;
  options.threads = 2;
  for (const char* tokenizer : {"gpt2", "olmoe", "prefix_space", "o200k", "sentencepiece"}) {
    for (const bool divided : {false, true}) {
      if (divided) options.document_separator = "----";
      if (!divided) options.document_separator.reset();
      options.tokenizer = kFixtures + tokenizer;
      options.block_bytes = 1 << 20;
      const PrepareReport whole = prepare(options);
      EXPECT_EQ(whole.documents, divided ? 8 : 2);
      const std::string expected = content_of(path("d.bin")) + content_of(path("d.idx"));
      for (const std::int64_t block_bytes : {7, 64, 300}) {
        if (block_bytes == 7 && std::string(tokenizer) == "sentencepiece") continue;  // slow
        options.block_bytes = block_bytes;
        EXPECT_EQ(prepare(options).text_bytes, whole.text_bytes);
        EXPECT_TRUE(content_of(path("d.bin")) + content_of(path("d.idx")) == expected)
            << tokenizer << ", blocks of " << block_bytes << ", divided " << divided;
      }
    }
  }
}

}  // namespace
}  // namespace witan
