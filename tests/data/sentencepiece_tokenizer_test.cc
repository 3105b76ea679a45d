// SentencePiece against the ids of its Python package: tests/fixtures/tokenizers/sentencepiece,
// written by tests/interop/check_tokenizers.py.
#include <nlohmann/json.hpp>
#include <sstream>

#include "launch/data/tokenizer.h"
#include "launch/data/tokenizers/process.h"
#include "tests/data/data_test_support.h"

namespace witan {
namespace {

using test::content_of;
using test::user_error;
using Ids = std::vector<std::int32_t>;

const std::string kFolder =
    std::string(WITAN_SOURCE_DIR) + "/tests/fixtures/tokenizers/sentencepiece";
constexpr std::int32_t kLineFeed = 3 + 10;  // behind <unk>, <s>, </s> come the bytes

class SentencePieceTest : public test::FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    std::istringstream lines(content_of(kFolder + "/expected.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto entry = nlohmann::json::parse(line);
      texts_.push_back(entry["text"]);
      ids_.push_back(entry["ids"].get<Ids>());
    }
    ASSERT_GT(texts_.size(), 20U);
  }
  std::vector<std::string> texts_;
  std::vector<Ids> ids_;
  std::unique_ptr<Tokenizer> tokenizer_ = make_tokenizer(kFolder);
};

TEST_F(SentencePieceTest, IdsOfThePythonPackage) {
  const std::vector<std::string_view> texts(texts_.begin(), texts_.end());
  Ids all;
  std::vector<std::size_t> ends;
  tokenizer_->encode_each(texts, all, ends);
  ASSERT_EQ(ends.size(), texts.size());
  std::size_t begin = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto at = [&](std::size_t n) { return all.begin() + static_cast<std::ptrdiff_t>(n); };
    EXPECT_EQ(Ids(at(begin), at(ends[i])), ids_[i]) << texts_[i];
    begin = ends[i];
  }
}

TEST_F(SentencePieceTest, LinesAreEncodedApart) {
  Ids ids, expected;
  tokenizer_->encode("\n" + texts_[1] + "\n\n" + texts_[5] + "\n", ids);
  expected.push_back(kLineFeed);
  expected.insert(expected.end(), ids_[1].begin(), ids_[1].end());
  expected.insert(expected.end(), {kLineFeed, kLineFeed});
  expected.insert(expected.end(), ids_[5].begin(), ids_[5].end());
  expected.push_back(kLineFeed);
  EXPECT_EQ(ids, expected);

  const std::string text = "ab\ncd\nef";
  EXPECT_EQ(tokenizer_->first_cut(text), 3U);
  EXPECT_EQ(tokenizer_->last_cut(text), 6U);
  EXPECT_EQ(tokenizer_->first_cut("ab\n"), std::string_view::npos);
  EXPECT_EQ(tokenizer_->last_cut("ab\n"), std::string_view::npos);
}

TEST_F(SentencePieceTest, DecodesAndCountsBytes) {
  Ids ids = ids_[3];
  ids.insert(ids.end(), {tokenizer_->end_of_document(), -1, 99999});
  EXPECT_EQ(tokenizer_->decode(ids), texts_[3]);
  EXPECT_EQ(tokenizer_->decode(Ids{}), "");
  EXPECT_EQ(tokenizer_->decode(Ids{kLineFeed, kLineFeed}), "\n\n");
  std::int64_t bytes = 0;
  for (const std::int32_t id : ids) bytes += tokenizer_->bytes(id);
  EXPECT_EQ(bytes, std::ssize(texts_[3]) + 1);  // SentencePiece puts a space in front
}

TEST_F(SentencePieceTest, WhatTheModelSays) {
  EXPECT_EQ(tokenizer_->vocab_size(), 400);
  EXPECT_EQ(tokenizer_->end_of_document(), 2);
  EXPECT_EQ(tokenizer_->name().substr(0, 14), "sentencepiece-");
  ASSERT_EQ(tokenizer_->files().size(), 1U);
  write_file("kept/" + tokenizer_->files()[0].name, tokenizer_->files()[0].content);
  EXPECT_EQ(make_tokenizer(path("kept"))->name(), tokenizer_->name());
  EXPECT_CONTAINS(user_error([&] { make_tokenizer(write_file("x.model", "no model")); }),
                  "x.model: not a SentencePiece model");
}

// A tokenizer.json that is not byte-level stands beside the model that it was made from.
TEST_F(SentencePieceTest, TakesThePlaceOfATokenizerJsonThatIsNoByteLevelBpe) {
  write_file("t/tokenizer.json", R"({"model": {"type": "Unigram"}})");
  EXPECT_CONTAINS(user_error([&] { make_tokenizer(path("t")); }), "ByteLevel");
  write_file("t/tokenizer.model", tokenizer_->files()[0].content);
  EXPECT_EQ(make_tokenizer(path("t"))->name(), tokenizer_->name());
}

TEST(ProcessTest, FiltersAndFailures) {
  const std::string big(3 << 20, 'x');
  EXPECT_EQ(run_filter({"cat"}, big, "coreutils"), big);
  EXPECT_CONTAINS(user_error([] { run_filter({"no-such-program"}, "", "the package"); }),
                  "no-such-program: cannot be run: No such file or directory; it is part of the");
  EXPECT_CONTAINS(user_error([] {
                    run_filter({"cat", "/no/such/file"}, "", "coreutils");
                  }),
                  "/no/such/file: No such file");
}

}  // namespace
}  // namespace witan
