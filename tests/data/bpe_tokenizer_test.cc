// Byte-level BPE against the ids that the `tokenizers` package gives: tests/fixtures/tokenizers,
// written by tests/interop/check_tokenizers.py.
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "core/base/rng.h"
#include "launch/data/tokenizer.h"
#include "tests/data/data_test_support.h"

namespace witan {
namespace {

using nlohmann::json;
using test::content_of;
using test::user_error;
using Ids = std::vector<std::int32_t>;

const std::string kFixtures = std::string(WITAN_SOURCE_DIR) + "/tests/fixtures/tokenizers/";

Ids encoded(const Tokenizer& tokenizer, std::string_view text) {
  Ids ids;
  tokenizer.encode(text, ids);
  return ids;
}

struct Expected {
  std::string text;
  Ids ids;
};

std::vector<Expected> expected_of(const std::string& kind) {
  std::istringstream lines(content_of(kFixtures + kind + "/expected.jsonl"));
  std::vector<Expected> result;
  for (std::string line; std::getline(lines, line);) {
    const json entry = json::parse(line);
    result.push_back({entry["text"], entry["ids"]});
  }
  EXPECT_GT(result.size(), 200U);
  return result;
}

class KindOfBpeTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::string kind() const { return GetParam(); }
  std::unique_ptr<Tokenizer> tokenizer_ = make_tokenizer(kFixtures + kind() + "/tokenizer.json");
};

TEST_P(KindOfBpeTest, IdsOfTheTokenizersPackage) {
  for (const auto& [text, ids] : expected_of(kind())) {
    EXPECT_EQ(encoded(*tokenizer_, text), ids) << "\"" << text << "\"";
  }
}

TEST_P(KindOfBpeTest, ManyTextsAtATime) {
  std::vector<std::string_view> texts;
  const std::vector<Expected> expected = expected_of(kind());
  Ids ids, wanted;
  std::vector<std::size_t> ends, wanted_ends;
  for (const Expected& one : expected) {
    texts.push_back(one.text);
    wanted.insert(wanted.end(), one.ids.begin(), one.ids.end());
    wanted_ends.push_back(wanted.size());
  }
  tokenizer_->encode_each(texts, ids, ends);
  EXPECT_EQ(ids, wanted);
  EXPECT_EQ(ends, wanted_ends);
}

// Wherever a text may be divided, the parts give the ids of the whole.
TEST_P(KindOfBpeTest, CutsLeaveNoTrace) {
  std::string all;
  for (const Expected& one : expected_of(kind())) all += one.text + "\nand then";
  const Ids whole = encoded(*tokenizer_, all);
  Ids parts;
  std::string_view rest = all;
  int cuts = 0;
  for (std::size_t cut = 0; (cut = tokenizer_->first_cut(rest)) != std::string_view::npos; ++cuts) {
    tokenizer_->encode(rest.substr(0, cut), parts);
    rest.remove_prefix(cut);
  }
  tokenizer_->encode(rest, parts);
  EXPECT_EQ(parts, whole);
  EXPECT_EQ(cuts > 100, kind() != "o200k");  // whose expression is not among the known ones

  const std::size_t last = tokenizer_->last_cut(all);
  if (kind() == "o200k") {
    EXPECT_EQ(last, std::string_view::npos);
    return;
  }
  EXPECT_EQ(tokenizer_->first_cut(std::string_view(all).substr(last)), std::string_view::npos);
}

TEST_P(KindOfBpeTest, ThreadsShareATokenizer) {
  const std::vector<Expected> expected = expected_of(kind());
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (const auto& [text, ids] : expected) wrong[t] += encoded(*tokenizer_, text) != ids;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(wrong.size(), 0));
}

INSTANTIATE_TEST_SUITE_P(All, KindOfBpeTest,
                         ::testing::Values("gpt2", "llama3", "olmoe", "deepseek", "prefix_space",
                                           "o200k"),
                         [](const auto& kind) { return std::string(kind.param); });

class BpeTokenizerTest : public test::FolderTest {
 protected:
  std::unique_ptr<Tokenizer> gpt2_ = make_tokenizer(kFixtures + "gpt2/tokenizer.json");
};

TEST_F(BpeTokenizerTest, EveryTextDecodesToItself) {
  const Random random(3, "test");
  std::string text;
  for (std::uint64_t i = 0; i < 20000; ++i) text.push_back(static_cast<char>(random.bits(i) & 255));
  const Ids ids = encoded(*gpt2_, text);
  EXPECT_EQ(gpt2_->decode(ids), text);
  std::int64_t bytes = 0;
  for (const std::int32_t id : ids) bytes += gpt2_->bytes(id);
  EXPECT_EQ(bytes, std::ssize(text));
}

TEST_F(BpeTokenizerTest, SpecialAndUnknownIdsAreNoText) {
  const std::int32_t end = gpt2_->end_of_document();
  EXPECT_EQ(end, encoded(*gpt2_, "<|endoftext|>").at(0));
  EXPECT_EQ(gpt2_->decode(Ids{encoded(*gpt2_, "a")[0], end, -1, 1000000}), "a");
  EXPECT_EQ(gpt2_->bytes(end), 0);
  EXPECT_EQ(gpt2_->vocab_size(), 420);
}

// The search over short words and the heap over long ones are the same algorithm.
TEST_F(BpeTokenizerTest, LongWordsAreMergedLikeShortOnes) {
  const Random random(4, "test");
  std::string word;
  for (std::uint64_t i = 0; i < 3000; ++i) word.push_back("etaoinshr"[random.below(i, 9)]);
  Ids ids;
  for (const char c : word) ids.push_back(encoded(*gpt2_, std::string(1, c)).at(0));
  // One merge after the other: the pair of two tokens that comes first in merges.txt.
  std::istringstream lines(content_of(kFixtures + "gpt2/merges.txt"));
  std::string left, right;
  std::getline(lines, left);
  while (lines >> left >> right) {
    if (left.find_first_not_of("etaoinshr") != std::string::npos) continue;
    if (right.find_first_not_of("etaoinshr") != std::string::npos) continue;
    const Ids whole = encoded(*gpt2_, left + right);
    if (whole.size() != 1) continue;  // a better merge takes it apart
    Ids merged;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const bool pair = i + 1 < ids.size() && gpt2_->decode(Ids{ids[i]}) == left &&
                        gpt2_->decode(Ids{ids[i + 1]}) == right;
      merged.push_back(pair ? whole[0] : ids[i]);
      i += pair ? 1 : 0;
    }
    ids = merged;
  }
  EXPECT_EQ(encoded(*gpt2_, word), ids);
}

TEST_F(BpeTokenizerTest, VocabularyAndMergesAreTheSameTokenizer) {
  std::filesystem::create_directories(path("old"));
  std::filesystem::copy_file(kFixtures + "gpt2/vocab.json", path("old/encoder.json"));
  std::filesystem::copy_file(kFixtures + "gpt2/merges.txt", path("old/vocab.bpe"));
  for (const std::string& name :
       {kFixtures + "gpt2/vocab.json", path("old"), path("old/encoder.json")}) {
    const auto tokenizer = make_tokenizer(name);
    EXPECT_EQ(tokenizer->end_of_document(), gpt2_->end_of_document());
    EXPECT_EQ(tokenizer->vocab_size(), gpt2_->vocab_size());
    for (const auto& [text, ids] : expected_of("gpt2")) EXPECT_EQ(encoded(*tokenizer, text), ids);
  }
}

TEST_F(BpeTokenizerTest, FilesMakeTheSameTokenizerAgain) {
  for (const TokenizerFile& file : gpt2_->files()) write_file("kept/" + file.name, file.content);
  EXPECT_TRUE(has_tokenizer_files(path("kept")));
  EXPECT_EQ(make_tokenizer(path("kept"))->name(), gpt2_->name());
  EXPECT_NE(make_tokenizer(kFixtures + "llama3")->name(), gpt2_->name());
}

TEST_F(BpeTokenizerTest, EndOfDocumentIsTheEosToken) {
  write_file("t/tokenizer.json", content_of(kFixtures + "deepseek/tokenizer.json"));
  const auto with = [&](const std::string& config) {
    write_file("t/tokenizer_config.json", config);
    return make_tokenizer(path("t"))->end_of_document();
  };
  const auto id = [&](const char* token) {
    return encoded(*make_tokenizer(path("t")), token).at(0);
  };
  EXPECT_EQ(with(R"({"eos_token": "<｜User｜>"})"), id("<｜User｜>"));
  EXPECT_EQ(with(R"({"eos_token": {"content": "<｜end▁of▁sentence｜>"}})"),
            id("<｜end▁of▁sentence｜>"));
  EXPECT_EQ(with("{}"), id("<|endoftext|>"));
  EXPECT_CONTAINS(user_error([&] { with(R"({"eos_token": "</s>"})"); }), "eos_token: \"</s>\"");
}

// Changes one value of a good file.
class RefusedBpeTest : public BpeTokenizerTest {
 protected:
  void expect_refused(const std::string& pointer, const json& value, const std::string& reason) {
    json changed = good_;
    changed[json::json_pointer(pointer)] = value;
    const std::string file = write_file("tokenizer.json", changed.dump());
    const std::string message = user_error([&] { make_tokenizer(file); });
    EXPECT_CONTAINS(message, reason);
    EXPECT_CONTAINS(message, file);
  }
  json good_ = json::parse(content_of(kFixtures + "llama3/tokenizer.json"));
};

TEST_F(RefusedBpeTest, WhatIsNotSupportedIsNamed) {
  expect_refused("/model/type", "Unigram", "model.type: found \"Unigram\"");
  expect_refused("/model/dropout", 0.1, "model.dropout: 0.1");
  expect_refused("/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix: \"</w>\"");
  expect_refused("/model/continuing_subword_prefix", "##", "continuing_subword_prefix");
  expect_refused("/normalizer", {{"type", "Lowercase"}}, "normalizer: \"Lowercase\"");
  expect_refused("/pre_tokenizer", {{"type", "Metaspace"}}, "\"Metaspace\" is not supported");
  expect_refused("/pre_tokenizer", nullptr, "has no ByteLevel");
  expect_refused("/pre_tokenizer/pretokenizers/0/behavior", "MergedWithNext",
                 "pretokenizers[0].behavior: \"MergedWithNext\"");
  expect_refused("/pre_tokenizer/pretokenizers/1/add_prefix_space", true, "add_prefix_space");
  expect_refused("/added_tokens/0/lstrip", true, "added_tokens[0].lstrip");
  expect_refused("/added_tokens/0/single_word", true, "added_tokens[0].single_word");
  expect_refused("/post_processor", {{"type", "BertProcessing"}}, "post_processor: \"BertProces");
  expect_refused("/truncation", {{"max_length", 5}}, "truncation");
  expect_refused("/decoder", {{"type", "WordPiece"}}, "decoder: ");
}

TEST_F(RefusedBpeTest, TemplatesBeginATextAndEndADocument) {
  const auto special = [](const char* name) {
    return json{{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
  };
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const std::int32_t begin = good_["added_tokens"][0]["id"];
  const auto processor = [&](const json& single, std::int32_t end) {
    return json{{"type", "Sequence"},
                {"processors",
                 {{{"type", "ByteLevel"}, {"trim_offsets", false}},
                  {{"type", "TemplateProcessing"},
                   {"single", single},
                   {"special_tokens",
                    {{"<b>", {{"id", "<b>"}, {"ids", {begin}}, {"tokens", {"<b>"}}}},
                     {"<e>", {{"id", "<e>"}, {"ids", {end}}, {"tokens", {"<e>"}}}}}}}}}};
  };
  const auto with = [&](const json& post_processor) {
    json changed = good_;
    changed["post_processor"] = post_processor;
    return make_tokenizer(write_file("tokenizer.json", changed.dump()));
  };
  good_["post_processor"] = nullptr;
  const auto plain = with(nullptr);
  EXPECT_TRUE(plain->text_begin().empty());
  const std::int32_t end = plain->end_of_document();
  const auto tokenizer = with(processor({special("<b>"), text, special("<e>")}, end));
  ASSERT_EQ(tokenizer->text_begin().size(), 1U);
  EXPECT_EQ(tokenizer->text_begin()[0], begin);
  EXPECT_EQ(encoded(*tokenizer, "two words"), encoded(*plain, "two words"));
  EXPECT_EQ(tokenizer->end_of_document(), end);

  expect_refused("/post_processor", processor({text, special("<e>")}, end + 1),
                 "other tokens behind");
  expect_refused("/post_processor", processor({text, text}, end), "a second place");
  expect_refused("/post_processor", processor(json::array({special("<b>")}), end),
                 "no place for the text");
  expect_refused("/post_processor", processor({special("<x>"), text}, end), "not among special");
}

TEST_F(RefusedBpeTest, ExpressionsThatMeanSomethingElseHere) {
  const std::string regex = "/pre_tokenizer/pretokenizers/0/pattern/Regex";
  expect_refused(regex, "(", "is malformed");
  for (const char* expression : {"[a[b]]", "[a&&b]", "^a", "a$", "a.b", "a{2}+", "\\w+", "\\bx",
                                 "(?<name>a)", "(?s:a)", "a\\"}) {
    expect_refused(regex, expression, "which is not supported");
  }
}

TEST_F(RefusedBpeTest, MalformedVocabularies) {
  expect_refused("/model/vocab/a", -1, "model.vocab.a: expected a token id");
  expect_refused("/model/vocab/a", "x", "model.vocab.a: expected a token id");
  expect_refused("/model/vocab/a", good_["model"]["vocab"]["b"], "appears twice");
  expect_refused("/model/merges/3", "a b c", "model.merges[3]: \"a b c\"");
  expect_refused("/model/merges/3", {"a"}, "model.merges[3]: expected two tokens");
  expect_refused("/model/merges/3", {"qqq", "zzz"}, "merge 3 (qqq zzz): qqq is not in");
  expect_refused("/added_tokens/0/content", "", "added_tokens[0].content: is empty");
  good_["model"]["vocab"].erase("a");
  expect_refused("/version", "1.0", "no token for the byte 97");
}

TEST_F(RefusedBpeTest, FilesThatAreNone) {
  EXPECT_CONTAINS(user_error([&] { make_tokenizer(write_file("t.json", "{")); }), "not JSON");
  EXPECT_CONTAINS(user_error([&] { make_tokenizer(write_file("t.json", "[]")); }), "JSON object");
  EXPECT_CONTAINS(user_error([&] { make_tokenizer(write_file("t.json", "{}")); }), "no \"model\"");
  EXPECT_CONTAINS(user_error([&] { make_tokenizer(write_file("t.txt", "")); }), "expected a");
  EXPECT_CONTAINS(user_error([&] { make_tokenizer(write_file("vocab.json", "{}")); }),
                  "there is no merges.txt beside it");
  EXPECT_CONTAINS(user_error([&] { make_tokenizer(path("")); }), "vocab.json");
  write_file("merges.txt", "#version: 0.2\na b c\n");
  EXPECT_CONTAINS(user_error([&] { make_tokenizer(path("vocab.json")); }), "expected tokens");
  write_file("vocab.json", R"({"a": 0})");
  EXPECT_CONTAINS(user_error([&] { make_tokenizer(path("vocab.json")); }), "merges.txt:2");
}

}  // namespace
}  // namespace witan
