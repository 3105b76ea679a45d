#include "launch/data/prepare.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/base/rng.h"
#include "launch/data/tokenizer.h"
#include "tests/data/compressed_files.h"
#include "tests/data/data_test_support.h"

namespace witan {
namespace {

using test::content_of;
using test::gzip;
using test::user_error;

constexpr std::int64_t kVocab = 257;

class PrepareTest : public test::FolderTest {
 protected:
  PrepareOptions options(const std::vector<std::string>& inputs) const {
    PrepareOptions result;
    result.inputs = inputs;
    result.output = path("out/data");
    result.overwrite = true;
    result.threads = 2;
    return result;
  }

  // Prepares and decodes: the text of each document. Checks that each ends with end-of-document,
  // that no other token is one, and that the report is true.
  std::vector<std::string> documents(const PrepareOptions& how) const {
    const PrepareReport report = prepare(how);
    const IndexedDataset dataset(how.output);
    EXPECT_EQ(dataset.sequences(), dataset.documents());
    EXPECT_EQ(report.documents, dataset.documents());
    EXPECT_EQ(report.tokens, dataset.tokens());
    EXPECT_EQ(report.text_bytes + report.documents, report.tokens);
    const auto tokenizer = make_tokenizer("byte");
    std::vector<std::string> texts;
    for (std::int64_t d = 0; d < dataset.documents(); ++d) {
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(dataset.sequence_length(d)));
      dataset.read(dataset.sequence_begin(d), tokens, kVocab);
      EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 256), 1);
      EXPECT_EQ(tokens.back(), 256);
      texts.push_back(tokenizer->decode(tokens));
    }
    return texts;
  }

  std::string output() const {
    return content_of(path("out/data.bin")) + content_of(path("out/data.idx"));
  }
  bool wrote_nothing() const {
    return !std::filesystem::exists(path("out")) || std::filesystem::is_empty(path("out"));
  }
};

using Texts = std::vector<std::string>;

std::string json_line(const std::string& text) {
  return nlohmann::json({{"id", 1}, {"text", text}}).dump() + "\n";
}

TEST_F(PrepareTest, AFileIsADocumentAndALineOfJsonlIsOne) {
  const auto text = write_file("a.txt", "first\nsecond\n");
  const auto odd_name = write_file("b.unknown", "third");
  const auto jsonl =
      write_file("c.jsonl", json_line("vier \u00fc \"x\"\n") + "\r\n  \n" + json_line("five") +
                                R"({"text": "\u00e9\ud83d\ude00"})");
  EXPECT_EQ(documents(options({text, odd_name, jsonl})),
            (Texts{"first\nsecond\n", "third", "vier \u00fc \"x\"\n", "five", "\u00e9\U0001F600"}));
}

// A template's beginning of a text, once a document, also where blocks divide it.
TEST_F(PrepareTest, WhatTheTokenizerBeginsATextWithStandsInFrontOfEveryDocument) {
  auto json = nlohmann::json::parse(
      content_of(std::string(WITAN_SOURCE_DIR) + "/tests/fixtures/tokenizers/gpt2/tokenizer.json"));
  json["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<b>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"special_tokens", {{"<b>", {{"id", "<b>"}, {"ids", {5, 6}}, {"tokens", {"x", "y"}}}}}}};
  auto how =
      options({write_file("a.jsonl", json_line("one two") + json_line("") + json_line("six")),
               write_file("b.txt", "a longer text of several words")});
  how.tokenizer = write_file("tokenizer/tokenizer.json", json.dump());
  const auto tokenizer = make_tokenizer(how.tokenizer);
  std::vector<std::int32_t> expected;
  for (const char* text : {"one two", "six", "a longer text of several words"}) {
    expected.insert(expected.end(), {5, 6});
    tokenizer->encode(text, expected);
    expected.push_back(tokenizer->end_of_document());
  }
  for (const std::int64_t block_bytes : {5, 1000}) {
    how.block_bytes = block_bytes;
    EXPECT_EQ(prepare(how).documents, 3);
    EXPECT_EQ(test::all_tokens(IndexedDataset(how.output), tokenizer->vocab_size()), expected);
  }
}

TEST_F(PrepareTest, SeparatorsDivideText) {
  auto how = options({write_file("a.txt", "---\none\n---\ntwo\n more---\n---\r\n---\nthree\n---")});
  how.document_separator = "---";
  for (const std::int64_t block_bytes : {4, 5, 7, 1000}) {
    how.block_bytes = block_bytes;
    EXPECT_EQ(documents(how), (Texts{"one\n", "two\n more---\n", "three\n"})) << block_bytes;
    EXPECT_EQ(prepare(how).empty_documents, 2);
  }
  how.inputs = {write_file("b.txt", "one\n\ntwo")};
  how.document_separator = "";
  EXPECT_EQ(documents(how), (Texts{"one\n", "two"}));
}

TEST_F(PrepareTest, EmptyDocumentsAreLeftOutAndCounted) {
  const auto how =
      options({write_file("a.txt", ""), write_file("b.jsonl", json_line("") + json_line("x")),
               write_file("c.txt", "y")});
  EXPECT_EQ(documents(how), (Texts{"x", "y"}));
  EXPECT_EQ(prepare(how).empty_documents, 2);
}

TEST_F(PrepareTest, FoldersAreReadInOrderOfNames) {
  write_file("in/b.txt", "2");
  write_file("in/a/z.txt", "1");
  write_file("in/c.jsonl.gz", gzip(json_line("3")));
  write_file("in/.hidden", "no");
  std::filesystem::create_directory_symlink(path("in/a"), path("in/d"));
  EXPECT_EQ(documents(options({path("in")})), (Texts{"1", "2", "3", "1"}));
  std::filesystem::create_directory_symlink(path("in"), path("in/a/loop"));
  EXPECT_CONTAINS(user_error([&] { prepare(options({path("in")})); }), "leads back");
}

// Text and JSONL of many blocks.
class CorpusTest : public PrepareTest {
 protected:
  void SetUp() override {
    PrepareTest::SetUp();
    const Random random(9, "test");
    for (std::uint64_t i = 0; text_.size() < 60000; ++i)
      text_.push_back("abcdefgh \n"[random.below(i, 10)]);
    for (std::uint64_t i = 0; i < 500; ++i)
      jsonl_ += json_line(text_.substr(i * 100, random.below(i, 300)));
  }
  std::string text_, jsonl_;
};

TEST_F(CorpusTest, ThreadsChangeNothing) {
  auto how =
      options({write_file("a.txt", text_), write_file("b.jsonl", jsonl_),
               write_file("c.txt.gz", gzip(text_)), write_file("d.jsonl.zst", test::zstd(jsonl_)),
               write_file("e.txt", "the end")});
  how.block_bytes = 1000;
  how.threads = 1;
  prepare(how);
  const std::string expected = output();
  for (const int threads : {2, 4, 7}) {
    how.threads = threads;
    for (int repeat = 0; repeat < 3; ++repeat) {
      prepare(how);
      EXPECT_TRUE(output() == expected) << threads << " threads";
    }
  }
  how.block_bytes = 1 << 20;  // with this tokenizer the blocks leave no trace either
  prepare(how);
  EXPECT_TRUE(output() == expected);
}

TEST_F(CorpusTest, CompressedFilesGiveWhatPlainOnesGive) {
  auto how = options({write_file("a.txt", text_), write_file("b.jsonl", jsonl_)});
  how.block_bytes = 1000;
  prepare(how);
  const std::string expected = output();
  how.inputs = {write_file("a.txt.gz", gzip(text_)), write_file("b.jsonl.gz", gzip(jsonl_))};
  prepare(how);
  EXPECT_TRUE(output() == expected);
  how.inputs = {write_file("a.txt.zst", test::zstd(text_)),
                write_file("b.ndjson.zstd", test::zstd(jsonl_))};
  prepare(how);
  EXPECT_TRUE(output() == expected);
  // Several members, or frames, one after the other.
  const std::string head = text_.substr(0, 33333), tail = text_.substr(33333);
  how.inputs = {write_file("c.txt.gz", gzip(head) + gzip(tail)), path("b.jsonl")};
  prepare(how);
  EXPECT_TRUE(output() == expected);
  how.inputs = {write_file("c.txt.zst", test::zstd(head) + test::zstd(tail)), path("b.jsonl")};
  prepare(how);
  EXPECT_TRUE(output() == expected);
}

TEST_F(CorpusTest, HighlyCompressedFilesAreReadToTheirEnd) {
  const std::string letters(1000000, 'a');
  EXPECT_EQ(documents(options({write_file("a.txt.gz", gzip(letters))})), Texts{letters});
  EXPECT_EQ(documents(options({write_file("a.txt.zst", test::zstd(letters))})), Texts{letters});
}

TEST_F(CorpusTest, ProgressEndsAtTheTotal) {
  auto how = options({write_file("a.txt", text_), write_file("b.jsonl.gz", gzip(jsonl_))});
  how.block_bytes = 1000;
  PrepareProgress last;
  how.progress = [&](const PrepareProgress& progress) {
    EXPECT_GE(progress.input_bytes, last.input_bytes);
    last = progress;
  };
  const PrepareReport report = prepare(how);
  EXPECT_EQ(last.input_bytes, last.total_bytes);
  EXPECT_EQ(last.tokens, report.tokens);
  EXPECT_EQ(report.files, 2);
}

TEST_F(CorpusTest, TruncatedCompressedFilesAreRefused) {
  for (const bool use_gzip : {true, false}) {
    const std::string name = use_gzip ? "a.txt.gz" : "a.txt.zst";
    const std::string whole = use_gzip ? gzip(text_) : test::zstd(text_);
    for (const std::size_t keep :
         {whole.size() - 1, whole.size() / 2, std::size_t{5}, std::size_t{0}}) {
      const auto file = write_file(name, whole.substr(0, keep));
      const std::string message = user_error([&] { prepare(options({file})); });
      EXPECT_CONTAINS(message, file);
      EXPECT_CONTAINS(message, "truncated");
    }
    EXPECT_CONTAINS(user_error([&] { prepare(options({write_file(name, text_)})); }),
                    "corrupt or not");
    std::string flipped = whole;
    flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 0x55);
    if (use_gzip) {  // ZSTD_compress adds no checksum
      EXPECT_CONTAINS(user_error([&] { prepare(options({write_file(name, flipped)})); }),
                      "corrupt");
    }
  }
  EXPECT_TRUE(wrote_nothing());
}

// The first mistake in the order of the input is the one reported, whichever thread finds one
// first.
TEST_F(CorpusTest, MistakesInJsonNameFileAndLine) {
  const std::string good = jsonl_;
  const auto refusal = [&](const std::string& line, bool compressed) {
    const std::string content = good + line + "\n" + good + "also wrong\n";
    const auto file =
        compressed ? write_file("b.jsonl.gz", gzip(content)) : write_file("b.jsonl", content);
    auto how = options({file});
    how.block_bytes = 1000;
    how.threads = 4;
    const std::string message = user_error([&] { prepare(how); });
    EXPECT_CONTAINS(message, file + ":501:");
    return message;
  };
  for (const bool compressed : {false, true}) {
    EXPECT_CONTAINS(refusal(R"({"text": oops})", compressed), "not valid JSON");
    EXPECT_CONTAINS(refusal(R"({"text": "a)", compressed), "not valid JSON");
    EXPECT_CONTAINS(refusal(R"({"text": "a", "n": 1e999})", compressed), "number overflow");
    EXPECT_CONTAINS(refusal("{\"text\": \"\xff\"}", compressed), "not valid JSON");
    EXPECT_CONTAINS(refusal(R"({"body": "a", "id": 3})", compressed),
                    "no field \"text\"; fields here: body, id");
    EXPECT_CONTAINS(refusal(R"({"text": 5})", compressed), "field \"text\" is a number");
    EXPECT_CONTAINS(refusal(R"(["text"])", compressed), "a JSON array, expected an object");
  }
  EXPECT_TRUE(wrote_nothing());
}

TEST_F(PrepareTest, TheJsonFieldCanBeChosen) {
  auto how = options({write_file("a.jsonl", R"({"text": "no", "body": "yes"})")});
  how.json_field = "body";
  EXPECT_EQ(documents(how), Texts{"yes"});
}

TEST_F(PrepareTest, MistakesInInputsAreNamed) {
  const auto message = [&](const std::vector<std::string>& inputs) {
    const std::string text = user_error([&] { prepare(options(inputs)); });
    EXPECT_TRUE(wrote_nothing());
    return text;
  };
  EXPECT_CONTAINS(message({}), "no input");
  EXPECT_CONTAINS(message({path("absent")}), path("absent") + ": no such file");
  std::filesystem::create_directory(path("empty"));
  EXPECT_CONTAINS(message({path("empty")}), "a folder without files");
  EXPECT_CONTAINS(message({write_file("e.txt", ""), write_file("f.jsonl", "\n")}),
                  "no text in 2 files");
  EXPECT_CONTAINS(message({write_file("x.bin", std::string("ab\0c", 4))}), "byte 2 is zero");
}

TEST_F(PrepareTest, UnreadableFilesAreNamed) {
  const auto file = write_file("a.txt", "x");
  std::filesystem::create_directory(path("out"));
  std::filesystem::permissions(path("out"), static_cast<std::filesystem::perms>(0777));
  std::filesystem::permissions(path(""), static_cast<std::filesystem::perms>(0755));
  std::filesystem::permissions(file, std::filesystem::perms::none);
  // Root reads everything, so this test is somebody else for a moment.
  const uid_t self = ::geteuid();
  if (self == 0) {
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const std::string message = user_error([&] { prepare(options({file})); });
  ASSERT_EQ(::seteuid(self), 0);
  EXPECT_CONTAINS(message, file + ": cannot be read: Permission denied");
}

TEST_F(PrepareTest, OptionsThatCannotBeHonouredAreRefused) {
  const auto text = write_file("a.txt", "x"), jsonl = write_file("b.jsonl", json_line("y"));
  auto how = options({text});
  how.json_field = "body";
  EXPECT_CONTAINS(user_error([&] { prepare(how); }), "no input is named .jsonl");
  how = options({jsonl});
  how.document_separator = "-";
  EXPECT_CONTAINS(user_error([&] { prepare(how); }), "all inputs are JSONL");
  how = options({text});
  how.tokenizer = "bite";
  EXPECT_CONTAINS(user_error([&] { prepare(how); }), "bite");
  how = options({text});
  how.threads = -1;
  EXPECT_CONTAINS(user_error([&] { prepare(how); }), "threads: -1");
  for (const std::string& output : {path(""), path("d.bin"), path("d.idx"), std::string()}) {
    how = options({text});
    how.output = output;
    EXPECT_CONTAINS(user_error([&] { prepare(how); }), "expected");
  }
}

TEST_F(PrepareTest, AnOldDatasetIsReplacedOnlyIfAllowed) {
  auto how = options({write_file("a.txt", "old")});
  prepare(how);
  how.inputs = {write_file("b.txt", "new")};
  how.overwrite = false;
  EXPECT_CONTAINS(user_error([&] { prepare(how); }), "exists already");
  EXPECT_EQ(test::all_tokens(IndexedDataset(how.output), kVocab)[0], 'o');
  how.overwrite = true;
  EXPECT_EQ(documents(how), Texts{"new"});
}

}  // namespace
}  // namespace witan
