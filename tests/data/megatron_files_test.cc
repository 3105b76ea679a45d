// Files that Megatron-LM's own tools wrote: 1000 documents of OpenWebText in a vocabulary of 5000
// tokens, of which the last ends each document.
#include "tests/data/data_test_support.h"

namespace witan {
namespace {

constexpr std::int64_t kVocab = 5000;
constexpr std::int32_t kEndOfDocument = 4999;
const std::string kPrefix = std::string(WITAN_SOURCE_DIR) +
                            "/../shared/data/interop/megatron/meg-gpt2-openwebtext_text_document";

class MegatronFilesTest : public test::FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    if (!std::filesystem::exists(kPrefix + ".idx")) GTEST_SKIP() << kPrefix << ".idx is absent";
  }
};

TEST_F(MegatronFilesTest, AreRead) {
  const IndexedDataset dataset(kPrefix);
  EXPECT_EQ(dataset.documents(), 1000);
  EXPECT_EQ(dataset.sequences(), 1000);
  EXPECT_EQ(dataset.bytes_per_token(), 2);
  EXPECT_EQ(dataset.tokens(),
            static_cast<std::int64_t>(std::filesystem::file_size(kPrefix + ".bin")) / 2);
  const auto tokens = test::all_tokens(dataset, kVocab);
  for (std::int64_t s = 0; s < dataset.sequences(); ++s)
    EXPECT_EQ(tokens[static_cast<std::size_t>(dataset.sequence_begin(s) +
                                              dataset.sequence_length(s) - 1)],
              kEndOfDocument);
}

TEST_F(MegatronFilesTest, AreWrittenAgainByteForByte) {
  const IndexedDataset dataset(kPrefix);
  IndexedDatasetWriter writer(path("copy"), kVocab);
  for (std::int64_t s = 0; s < dataset.sequences(); ++s) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(dataset.sequence_length(s)));
    dataset.read(dataset.sequence_begin(s), tokens, kVocab);
    writer.append(tokens);
    writer.end_document();
  }
  writer.finish();
  EXPECT_TRUE(test::content_of(path("copy.idx")) == test::content_of(kPrefix + ".idx"));
  EXPECT_TRUE(test::content_of(path("copy.bin")) == test::content_of(kPrefix + ".bin"));
}

}  // namespace
}  // namespace witan
