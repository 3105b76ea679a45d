// Token files of llm.c and nanoGPT, and how a dataset's path finds its format.
#include "launch/data/token_file.h"

#include <cstring>

#include "launch/data/sample_stream.h"
#include "tests/data/data_test_support.h"

namespace witan {
namespace {

using test::user_error;
using Ids = std::vector<std::int32_t>;

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string header(std::int32_t magic, std::int32_t version, std::int32_t tokens) {
  std::vector<std::int32_t> words(256);
  words[0] = magic;
  words[1] = version;
  words[2] = tokens;
  return raw(words);
}

Ids ids_of(const TokenSource& source, std::int64_t vocab) {
  Ids ids(static_cast<std::size_t>(source.tokens()));
  source.read(0, ids, vocab);
  return ids;
}

class TokenFileTest : public test::FolderTest {
 protected:
  static configs::Dataset dataset(const std::string& path,
                                  configs::Dataset::Format format = configs::Dataset::AUTO) {
    configs::Dataset result;
    result.set_name("d");
    result.set_path(path);
    result.set_format(format);
    return result;
  }
  // What is wrong with a file of this content, in this format.
  std::string refusal(const std::string& content,
                      configs::Dataset::Format format = configs::Dataset::AUTO) {
    const std::string file = write_file("bad.bin", content);
    const std::string message = user_error([&] { open_dataset(dataset(file, format)); });
    EXPECT_CONTAINS(message, file);
    return message;
  }
  const Ids ids_ = {0, 50256, 65535, 7, 31373};
  const std::string tokens16_ = raw(std::vector<std::uint16_t>(ids_.begin(), ids_.end()));
  const std::string tokens32_ = raw(std::vector<std::uint32_t>(ids_.begin(), ids_.end()));
};

TEST_F(TokenFileTest, EveryFormatGivesTheSameTokens) {
  const auto gpt2 = write_file("gpt2.bin", header(20240520, 1, 5) + tokens16_);
  const auto llama = write_file("llama.bin", header(20240801, 7, 5) + tokens32_);
  const auto raw16 = write_file("raw16.bin", tokens16_);
  const auto raw32 = write_file("raw32.bin", tokens32_);
  test::write_dataset(path("megatron"), {ids_}, 100000);
  const std::vector<configs::Dataset> datasets = {
      dataset(gpt2), dataset(llama), dataset(raw16, configs::Dataset::RAW_UINT16),
      dataset(raw32, configs::Dataset::RAW_UINT32), dataset(path("megatron"))};
  for (const configs::Dataset& one : datasets) {
    SCOPED_TRACE(one.path());
    EXPECT_TRUE(dataset_is_there(one));
    const auto source = open_dataset(one);
    EXPECT_EQ(ids_of(*source, 65536), ids_);
    Ids middle(2);
    source->read(1, middle, 65536);
    EXPECT_EQ(middle, (Ids{50256, 65535}));
    EXPECT_CONTAINS(user_error([&] { ids_of(*source, 65535); }),
                    "token 2 has the id 65535, expected 0 to 65534");
    EXPECT_THROW(source->read(4, middle, 65536), Error);
  }
  EXPECT_FALSE(dataset_is_there(dataset(path("none"))));
}

TEST_F(TokenFileTest, ATrainingStreamReadsThem) {
  Ids counting(40);
  std::vector<std::uint16_t> words;
  for (std::size_t i = 0; i < counting.size(); ++i) words.push_back(static_cast<std::uint16_t>(i));
  configs::DataConfig data;
  *data.add_train() = dataset(write_file("a.bin", header(20240520, 1, 40) + raw(words)));
  data.set_seq_len(39);
  data.set_validation_share(0);
  const SampleStream stream(data, 40, 1);
  EXPECT_EQ(stream.train_tokens(), 40);
  stream.train_sample(0, counting);
  for (std::size_t i = 0; i < counting.size(); ++i)
    EXPECT_EQ(counting[i], static_cast<std::int32_t>(i));
}

TEST_F(TokenFileTest, WhatIsWrongIsNamed) {
  const std::string good = header(20240520, 1, 5);
  EXPECT_CONTAINS(refusal(""), "not a token file of llm.c");
  EXPECT_CONTAINS(refusal(good.substr(0, 1000)), "not a token file of llm.c");
  EXPECT_CONTAINS(refusal(header(20240521, 1, 5) + tokens16_), "RAW_UINT16 or RAW_UINT32");
  EXPECT_CONTAINS(refusal(header(20240520, 2, 5) + tokens16_), "version 2");
  EXPECT_CONTAINS(refusal(header(20240801, 1, 5) + tokens32_), "expected 7 with magic 20240801");
  EXPECT_CONTAINS(refusal(good + tokens16_.substr(1)), "is truncated");
  EXPECT_CONTAINS(refusal(good + tokens16_ + "x"), "is damaged");
  EXPECT_CONTAINS(refusal(header(20240520, 1, -5) + tokens16_), "counts -5 tokens");
  EXPECT_CONTAINS(refusal(header(20240801, 7, 2000000000) + tokens32_), "is truncated");
  EXPECT_CONTAINS(refusal(good + tokens16_, configs::Dataset::RAW_UINT16), "format AUTO");
  EXPECT_CONTAINS(refusal(tokens16_ + "x", configs::Dataset::RAW_UINT16), "a multiple of 2");
  EXPECT_CONTAINS(refusal(tokens32_ + "xy", configs::Dataset::RAW_UINT32), "a multiple of 4");
  EXPECT_CONTAINS(
      user_error([&] { open_dataset(dataset(path("x"), configs::Dataset::RAW_UINT16)); }),
      path("x") + ": cannot be read");
  EXPECT_CONTAINS(user_error([&] { open_dataset(dataset(path("x"))); }), path("x") + ".idx");
}

}  // namespace
}  // namespace witan
