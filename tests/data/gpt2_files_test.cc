// GPT-2's own tokenizer: what its users' tests expect, and llm.c's files of tiny Shakespeare, token
// by token.
#include <fstream>
#include <nlohmann/json.hpp>

#include "launch/data/token_file.h"
#include "launch/data/tokenizer.h"
#include "tests/data/data_test_support.h"

namespace witan {
namespace {

using Ids = std::vector<std::int32_t>;

const std::string kShared = std::string(WITAN_SOURCE_DIR) + "/../shared/";

class Gpt2FilesTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string path = kShared + "data/tokenizers/gpt2/" + GetParam();
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
    tokenizer_ = make_tokenizer(path);
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(Gpt2FilesTest, GoldenIds) {
  const auto golden =
      nlohmann::json::parse(test::content_of(kShared + "golden/tokenizer_gpt2.json"));
  ASSERT_GT(golden["cases"].size(), 15U);
  for (const auto& one : golden["cases"]) {
    Ids ids;
    tokenizer_->encode(one[0].get<std::string>(), ids);
    EXPECT_EQ(ids, one[1].get<Ids>()) << one[0];
    EXPECT_EQ(tokenizer_->decode(ids) + (ids.back() == 50256 ? "<|endoftext|>" : ""), one[0]);
  }
}

// llm.c puts end-of-text in front of every paragraph, and the first 32768 tokens into the
// validation file.
TEST_P(Gpt2FilesTest, LlmCFiles) {
  const std::string text = test::content_of(kShared + "data/text/tinyshakespeare.txt");
  constexpr std::string_view kParagraph = "\n\n";
  Ids ids;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(kParagraph, at), text.size());
    const std::size_t next = std::min(end + kParagraph.size(), text.size() + 1);
    ids.push_back(tokenizer_->end_of_document());
    tokenizer_->encode(std::string_view(text).substr(at, next - at), ids);
    at = next;
  }
  const auto read = [](const char* name) {
    const TokenFile file(kShared + "data/interop/llmc/" + name, TokenFile::Format::kLlmC);
    Ids tokens(static_cast<std::size_t>(file.tokens()));
    file.read(0, tokens, 50257);
    return tokens;
  };
  Ids expected = read("tiny_shakespeare_val.bin");
  EXPECT_EQ(expected.size(), 32768U);
  const Ids training = read("tiny_shakespeare_train.bin");
  expected.insert(expected.end(), training.begin(), training.end());
  EXPECT_TRUE(ids == expected) << ids.size() << " and " << expected.size() << " tokens";
}

INSTANTIATE_TEST_SUITE_P(Files, Gpt2FilesTest, ::testing::Values("tokenizer.json", "encoder.json"),
                         [](const auto& file) { return std::string(file.param, 0, 7); });

}  // namespace
}  // namespace witan
