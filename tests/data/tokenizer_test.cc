#include "launch/data/tokenizer.h"

#include "core/base/rng.h"
#include "tests/data/data_test_support.h"

namespace witan {
namespace {

TEST(ByteTokenizerTest, RoundTripOfRandomBytes) {
  const auto tokenizer = make_tokenizer("byte");
  const Random random(1, "test");
  std::string text;
  for (std::uint64_t i = 0; i < 10000; ++i) text.push_back(static_cast<char>(random.bits(i) & 255));
  std::vector<std::int32_t> ids = {7};  // encode appends
  tokenizer->encode(text, ids);
  ASSERT_EQ(ids.size(), text.size() + 1);
  EXPECT_EQ(tokenizer->decode(std::span(ids).subspan(1)), text);
  for (const std::int32_t id : ids) EXPECT_TRUE(id >= 0 && id < 256) << id;
}

TEST(ByteTokenizerTest, EndOfDocumentAndUnknownIdsAreNoText) {
  const auto tokenizer = make_tokenizer("byte");
  EXPECT_EQ(tokenizer->name(), "byte");
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->end_of_document(), 256);
  EXPECT_EQ(tokenizer->decode(std::vector<std::int32_t>{'a', 256, -1, 1000, 'b'}), "ab");
  EXPECT_EQ(tokenizer->bytes('a'), 1);
  EXPECT_EQ(tokenizer->bytes(256), 0);
}

TEST(TokenizerTest, UnknownNameListsTheKnownOnes) {
  const std::string message = test::user_error([] { make_tokenizer("bite"); });
  EXPECT_CONTAINS(message, "\"bite\"");
  EXPECT_CONTAINS(message, "byte");
}

}  // namespace
}  // namespace witan
